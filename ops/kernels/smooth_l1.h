// Smooth L1 (Fast R-CNN, arXiv:1504.08083, section 2.3) of one difference, with its transition at
// beta.
#pragma once

#include <cmath>

#include "kernels/elementary.h"

namespace detectron_ext {

// A formula of a box loss; kernels/dense_loss.h says what it must have.
struct SmoothL1 {
  float beta;

  // x^2 / (2 beta) where x = |difference| is below beta, else x - beta / 2.
  DETECTRON_EXT_HOST_DEVICE float Loss(float difference) const {
    const float x = fabsf(difference);
    return x < beta ? 0.5f * x * x / beta : x - 0.5f * beta;
  }

  // The derivative of Loss; 0 at 0, NaN at NaN.
  DETECTRON_EXT_HOST_DEVICE float Gradient(float difference) const {
    const float sign = difference > 0 ? 1.0f : difference < 0 ? -1.0f : difference;
    return fabsf(difference) < beta ? difference / beta : sign;
  }
};

}  // namespace detectron_ext
