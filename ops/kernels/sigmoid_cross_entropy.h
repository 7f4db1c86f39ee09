// Detectron's sigmoid cross entropy: targets 0 and 1, or -1 for what is ignored.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/formulas.h"
#include "kernels/parallel.h"
#include "kernels/lane_sum.h"

namespace detectron_ext {

constexpr int64_t kCrossEntropyBlock = 16384;

// Returns how many targets are not -1.
inline int64_t CountTargets(const int32_t* targets, int64_t size, ParallelFor parallel_for) {
  const double count = SumOverBlocks(
      parallel_for, size, kCrossEntropyBlock, [targets](int64_t begin, int64_t end) {
        int32_t counted = 0;
        for (int64_t i = begin; i < end; ++i) {
          counted += targets[i] != -1;
        }
        return static_cast<double>(counted);
      });
  return static_cast<int64_t>(count);
}

// Returns the sum of max(x, 0) - x t + log(1 + exp(-|x|)).
inline double SigmoidCrossEntropy(
    const float* logits, const int32_t* targets, int64_t size, ParallelFor parallel_for) {
  return SumOverBlocks(parallel_for, size, kCrossEntropyBlock, [=](int64_t begin, int64_t end) {
    constexpr int64_t kRun = 512;
    float losses[kRun];
    double sum = 0;
    for (int64_t first = begin; first < end; first += kRun) {
      const int64_t length = std::min(kRun, end - first);
      for (int64_t i = 0; i < length; ++i) {
        const float x = logits[first + i];
        const int32_t target = targets[first + i];
        const float tail = LogPartsOf(Exp(-std::fabs(x))).log;
        const float loss = (x < 0 ? 0.0f : x) - x * target + tail;
        losses[i] = target == -1 ? 0.0f : loss;
      }
      sum += LaneSum(losses, length);
    }
    return sum;
  });
}

// Writes factor * (sigmoid(x) - t), 0 where t is -1.
inline void SigmoidCrossEntropyGradient(
    const float* logits, const int32_t* targets, int64_t size, float factor, float* gradient,
    ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kCrossEntropyBlock, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t target = targets[i];
      const float slope = factor * (SigmoidPartsOf(logits[i]).p - target);
      gradient[i] = target == -1 ? 0.0f : slope;
    }
  });
}

}  // namespace detectron_ext
