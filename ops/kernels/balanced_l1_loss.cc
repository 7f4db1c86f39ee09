#include "kernels/balanced_l1_loss.h"

#include <algorithm>

namespace detectron_ext {
namespace {

constexpr int64_t kElementBlock = 16384;
// Terms added in floats, one of each lane, before the lanes go into a double.
constexpr int64_t kChunk = 512;
constexpr int64_t kLanes = 16;

}  // namespace

double BalancedL1Sum(const BalancedL1& loss, int64_t size, const float* prediction,
                     const float* target, const float* inside, const float* outside,
                     ParallelFor parallel_for) {
  const BalancedL1 formula = loss;
  return SumOverBlocks(parallel_for, size, kElementBlock, [=](int64_t begin, int64_t end) {
    double sum = 0;
    int64_t i = begin;
    for (; i + kChunk <= end; i += kChunk) {
      float lanes[kLanes] = {};
      for (int64_t row = i; row < i + kChunk; row += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          const int64_t at = row + lane;
          const float difference = inside[at] * (prediction[at] - target[at]);
          lanes[lane] += outside[at] * formula.Loss(difference);
        }
      }
      for (const float lane : lanes) {
        sum += lane;
      }
    }
    for (; i < end; ++i) {
      sum += outside[i] * formula.Loss(inside[i] * (prediction[i] - target[i]));
    }
    return sum;
  });
}

void BalancedL1Gradient(const BalancedL1& loss, int64_t size, const float* prediction,
                        const float* target, const float* inside, const float* outside,
                        float factor, float* d_prediction, ParallelFor parallel_for) {
  const BalancedL1 formula = loss;
  ForEachBlock(parallel_for, size, kElementBlock, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float slope = formula.Gradient(inside[i] * (prediction[i] - target[i]));
      d_prediction[i] = factor * slope * inside[i] * outside[i];
    }
  });
}

}  // namespace detectron_ext
