// Balanced L1 losses and their gradients on the CPU. The formula is in kernels/formulas.h.
#pragma once

#include <cstdint>

#include "kernels/formulas.h"
#include "kernels/parallel.h"

namespace detectron_ext {

// Returns sum over i < size of outside[i] * L(inside[i] * (prediction[i] - target[i])).
double BalancedL1Sum(const BalancedL1& loss, int64_t size, const float* prediction,
                     const float* target, const float* inside, const float* outside,
                     ParallelFor parallel_for);

// d_prediction[i] = factor * the derivative of that sum.
void BalancedL1Gradient(const BalancedL1& loss, int64_t size, const float* prediction,
                        const float* target, const float* inside, const float* outside,
                        float factor, float* d_prediction, ParallelFor parallel_for);

}  // namespace detectron_ext
