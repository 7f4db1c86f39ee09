// The dense form of a box loss: the sum of outside * loss(inside * (prediction - target)) over all
// elements, and its gradient.
//
// A formula is a small struct that can be copied to a GPU, such as SmoothL1 or BalancedL1. It has
//   float Loss(float difference) const        the loss of one difference, and
//   float Gradient(float difference) const    its derivative: 0 at 0, NaN at NaN,
// both marked DETECTRON_EXT_HOST_DEVICE.
#pragma once

#include <cstdint>

#include "kernels/lane_sum.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct DenseLossInputs {
  int64_t size;
  const float* prediction;
  const float* target;
  const float* inside;   // weight of the difference
  const float* outside;  // weight of the loss
};

// Returns the sum over all elements of outside * loss(inside * (prediction - target)).
template <typename Formula>
double DenseLossSum(const DenseLossInputs& in, const Formula& formula, ParallelFor parallel_for) {
  return SumOverElements(parallel_for, in.size, [=](int64_t i) {
    return in.outside[i] * formula.Loss(in.inside[i] * (in.prediction[i] - in.target[i]));
  });
}

// gradient = factor * the derivative of the sum with respect to the prediction.
template <typename Formula>
void DenseLossGradient(const DenseLossInputs& in, const Formula& formula, float factor,
                       float* gradient, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, in.size, kSumBlock, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float slope = formula.Gradient(in.inside[i] * (in.prediction[i] - in.target[i]));
      gradient[i] = factor * slope * in.inside[i] * in.outside[i];
    }
  });
}

}  // namespace detectron_ext
