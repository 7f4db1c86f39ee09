// Quality focal loss (Li et al., Generalized Focal Loss, arXiv:2006.04388, equation 5) of the logit
// of a positive's own class. Its target is the quality q of the positive, from 0 to 1:
//
//   weight |q - p|^beta * -(q ln p + (1 - q) ln(1 - p)),  p = sigmoid(x)
//
// All other logits have the target 0. Their loss is that of a negative in kernels/sigmoid_focal.h,
// with gamma = beta.
#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/elementary.h"

namespace detectron_ext {

struct QualityFocal {
  float beta;
  float weight;

  // Numbers that the loss and its derivative share.
  struct Parts {
    float distance;       // p - q, without cancellation
    float slope;          // p (1 - p), the derivative of p
    float cross_entropy;  // at least 0; infinite only for an infinite logit
  };

  DETECTRON_EXT_HOST_DEVICE static Parts PartsOf(float x, float quality) {
    const float tail = Exp(-fabsf(x));
    const float large = 1.0f / (1.0f + tail);
    const float small = tail * large;
    const bool positive = x >= 0.0f;
    // How far the target lies from the limit that p tends to. 0 times an infinite logit is 0.
    const float rest = positive ? 1.0f - quality : quality;
    const float linear = rest == 0.0f && x == x ? 0.0f : rest * fabsf(x);
    Parts parts;
    parts.distance = positive ? rest - small : small - rest;
    parts.slope = small * large;
    parts.cross_entropy = linear + LogPartsOf(tail).log;
    return parts;
  }

  // Returns base^beta; base is at least 0.
  DETECTRON_EXT_HOST_DEVICE float Power(float base) const {
    return beta == 2.0f ? base * base : powf(base, beta);
  }

  // The loss of logit x.
  DETECTRON_EXT_HOST_DEVICE float Loss(float x, float quality) const {
    const Parts parts = PartsOf(x, quality);
    return weight * Power(fabsf(parts.distance)) * parts.cross_entropy;
  }

  // The derivative of Loss. At p = q it is 0. Below a beta of 1 the loss has a kink there. It is
  // finite even if x is infinite.
  DETECTRON_EXT_HOST_DEVICE float Gradient(float x, float quality) const {
    const float above = x < -FLT_MAX ? -FLT_MAX : x;
    const Parts parts = PartsOf(above > FLT_MAX ? FLT_MAX : above, quality);
    if (parts.distance == 0.0f) {
      return 0.0f;
    }
    // The ratio is bounded where p and q are both next to 0 or to 1; |distance|^(beta - 1) is not.
    const float bend = beta * (parts.slope / parts.distance) * parts.cross_entropy;
    return weight * Power(fabsf(parts.distance)) * (parts.distance + bend);
  }
};

}  // namespace detectron_ext
