// How much of the focal loss's gradient comes from the negatives of each bin (for example, of IoU).
//
// Logits are (images, anchors * classes, positions), bins (images, anchors, positions). All classes
// of an anchor are negative and share its bin: 1 to num_bins. Bin 0 is not counted, whatever its
// logits are.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

constexpr int kMaxGradientBins = 4096;

struct GradientMassInputs {
  int64_t anchors;  // images * anchors
  int64_t classes;
  int64_t positions;  // height * width
  const float* logits;
  const int32_t* bins;
  int64_t num_bins;
  float gamma, alpha;
};

// mass[b - 1] = the sum of |d(focal loss)/d(logit)| over the logits of the anchors of bin b, always
// added in the same order. The loss is not divided by anything.
void NegativeGradientMass(const GradientMassInputs& in, float* mass, ParallelFor parallel_for);

}  // namespace detectron_ext
