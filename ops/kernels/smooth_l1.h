// Smooth L1 (Fast R-CNN, section 2.3) with its transition at beta.
#pragma once

#include <cmath>

namespace detectron_ext {

struct SmoothL1 {
  float beta;

  float Loss(float difference) const {
    const float x = std::fabs(difference);
    return x < beta ? 0.5f * x * x / beta : x - 0.5f * beta;
  }

  // The derivative of Loss; 0 at 0, NaN at NaN.
  float Gradient(float difference) const {
    const float sign = difference > 0 ? 1.0f : difference < 0 ? -1.0f : difference;
    return std::fabs(difference) < beta ? difference / beta : sign;
  }
};

}  // namespace detectron_ext
