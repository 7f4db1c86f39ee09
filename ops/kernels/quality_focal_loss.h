// Quality focal loss on the CPU. The formulas are in kernels/quality_focal.h and, for negatives, in
// kernels/sigmoid_focal.h. Logits and labels are as in kernels/sigmoid_focal_loss.h.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"
#include "kernels/sigmoid_focal_loss.h"

namespace detectron_ext {

struct QualityFocalInputs {
  const float* logits;
  const int32_t* labels;
  const float* quality;  // shaped as labels; used only where a label is a class
  float beta;
  float positive_weight;  // divided by max(foreground, 1)
  float negative_weight;  // divided by max(foreground, 1)
};

// Returns the sum of the losses of all logits.
double QualityFocalSum(const SigmoidFocalShape& shape, const QualityFocalInputs& in,
                       ParallelFor parallel_for);

// d_logits = factor * the derivative of that sum.
void QualityFocalGradient(const SigmoidFocalShape& shape, const QualityFocalInputs& in,
                          float factor, float* d_logits, ParallelFor parallel_for);

}  // namespace detectron_ext
