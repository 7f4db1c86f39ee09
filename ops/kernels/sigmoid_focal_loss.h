// Sigmoid focal loss (arXiv:1708.02002) on the CPU. The formula is in kernels/sigmoid_focal.h.
//
// Logits are (images, anchors * classes, positions), labels (images, anchors, positions). The
// classes of one anchor share its label, and its weight if there are weights. Class k of an anchor
// is positive if the label is k + 1. Label 0 is background; -1 is ignored.
#pragma once

#include <cstdint>

#include "kernels/focal_parameters.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct SigmoidFocalShape {
  int64_t anchors;  // images * anchors
  int64_t classes;
  int64_t positions;  // height * width

  int64_t size() const { return anchors * classes * positions; }
};

// Returns the sum of weight * loss over all logits. weights may be nullptr, which means 1
// everywhere.
double SigmoidFocalSum(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                       const float* logits, const int32_t* labels, const float* weights,
                       ParallelFor parallel_for);

// d_logits = factor * the derivative of that sum.
void SigmoidFocalGradient(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                          const float* logits, const int32_t* labels, const float* weights,
                          float factor, float* d_logits, ParallelFor parallel_for);

}  // namespace detectron_ext
