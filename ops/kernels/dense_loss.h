// The sum of outside * penalty(inside * (prediction - target)) over all elements, and its gradient.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/parallel.h"
#include "kernels/lane_sum.h"

namespace detectron_ext {

struct DenseLossInputs {
  int64_t size;
  const float* prediction;
  const float* target;
  const float* inside;   // weight of the difference
  const float* outside;  // weight of the penalty
};

constexpr int64_t kDenseLossBlock = 16384;

template <typename Penalty>
double DenseLossSum(const DenseLossInputs& in, const Penalty& penalty, ParallelFor parallel_for) {
  return SumOverBlocks(parallel_for, in.size, kDenseLossBlock, [=](int64_t begin, int64_t end) {
    constexpr int64_t kRun = 512;
    float losses[kRun];
    double sum = 0;
    for (int64_t first = begin; first < end; first += kRun) {
      const int64_t length = std::min(kRun, end - first);
      for (int64_t i = 0; i < length; ++i) {
        const int64_t at = first + i;
        losses[i] =
            in.outside[at] * penalty(in.inside[at] * (in.prediction[at] - in.target[at]));
      }
      sum += LaneSum(losses, length);
    }
    return sum;
  });
}

// gradient = factor * the derivative of the sum with respect to the prediction.
template <typename Slope>
void DenseLossGradient(
    const DenseLossInputs& in, const Slope& slope, float factor, float* gradient,
    ParallelFor parallel_for) {
  ForEachBlock(parallel_for, in.size, kDenseLossBlock, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float inner = slope(in.inside[i] * (in.prediction[i] - in.target[i]));
      gradient[i] = factor * inner * in.inside[i] * in.outside[i];
    }
  });
}

}  // namespace detectron_ext
