// Sigmoid focal loss (arXiv:1708.02002) on the CPU. The formula is in kernels/formulas.h.
//
// Logits are (images, anchors * classes, positions), labels (images, anchors, positions). The
// classes of one anchor share its label, and its weight where there are weights; class k of an
// anchor is the positive one where its label is k + 1. Labels 0 are background, -1 ignored.
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

// Returns the sum of weight * loss over all logits; weights may be nullptr, for 1 everywhere.
double SigmoidFocalSum(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                       const float* logits, const int32_t* labels, const float* weights,
                       ParallelFor parallel_for);

// d_logits = factor * the derivative of that sum.
void SigmoidFocalGradient(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                          const float* logits, const int32_t* labels, const float* weights,
                          float factor, float* d_logits, ParallelFor parallel_for);

}  // namespace detectron_ext
