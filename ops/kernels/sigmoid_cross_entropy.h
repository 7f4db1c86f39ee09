// Detectron's sigmoid cross entropy. Targets are 0, 1, or -1 for an ignored element.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/lane_sum.h"
#include "kernels/parallel.h"
#include "kernels/sigmoid_focal.h"

namespace detectron_ext {

// Returns the number of targets that are not -1.
inline int64_t CountTargets(const int32_t* targets, int64_t size, ParallelFor parallel_for) {
  const double count =
      SumOverBlocks(parallel_for, size, kSumBlock, [targets](int64_t begin, int64_t end) {
        int32_t counted = 0;
        for (int64_t i = begin; i < end; ++i) {
          counted += targets[i] != -1;
        }
        return static_cast<double>(counted);
      });
  return static_cast<int64_t>(count);
}

// Returns the sum of max(x, 0) - x t + log(1 + exp(-|x|)).
inline double SigmoidCrossEntropy(const float* logits, const int32_t* targets, int64_t size,
                                  ParallelFor parallel_for) {
  return SumOverElements(parallel_for, size, [=](int64_t i) {
    const float x = logits[i];
    const int32_t target = targets[i];
    const float tail = LogPartsOf(Exp(-std::fabs(x))).log;
    const float loss = (x < 0 ? 0.0f : x) - x * target + tail;
    return target == -1 ? 0.0f : loss;
  });
}

// Writes factor * (sigmoid(x) - t), 0 where t is -1.
inline void SigmoidCrossEntropyGradient(const float* logits, const int32_t* targets, int64_t size,
                                        float factor, float* gradient, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kSumBlock, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t target = targets[i];
      const float slope = factor * (SigmoidPartsOf(logits[i]).p - target);
      gradient[i] = target == -1 ? 0.0f : slope;
    }
  });
}

}  // namespace detectron_ext
