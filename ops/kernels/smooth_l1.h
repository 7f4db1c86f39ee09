// Smooth L1 (Fast R-CNN, section 2.3) with its transition at beta.
#pragma once

#include <cmath>

namespace detectron_ext {

struct SmoothL1Penalty {
  float beta;

  float operator()(float difference) const {
    const float x = std::fabs(difference);
    return x < beta ? 0.5f * x * x / beta : x - 0.5f * beta;
  }
};

struct SmoothL1Slope {
  float beta;

  float operator()(float difference) const {
    // A NaN stays a NaN, 0 stays 0.
    const float sign = difference > 0 ? 1.0f : difference < 0 ? -1.0f : difference;
    return std::fabs(difference) < beta ? difference / beta : sign;
  }
};

}  // namespace detectron_ext
