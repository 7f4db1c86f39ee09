// Sigmoid focal loss (arXiv:1708.02002) of one logit.
#pragma once

#include <cmath>

#include "kernels/elementary.h"

namespace detectron_ext {

// ln(FLT_MIN): Detectron cuts off the logarithms of the focal losses there.
constexpr float kLogOfSmallest = -87.3365448f;

// The probabilities of a logit and their logarithms.
struct SigmoidParts {
  float p;        // sigmoid(x)
  float not_p;    // 1 - sigmoid(x), without cancellation
  float log_p;    // ln(p), at least kLogOfSmallest
  float log_not;  // ln(1 - p)
};

DETECTRON_EXT_HOST_DEVICE SigmoidParts SigmoidPartsOf(float x) {
  const float tail = Exp(-fabsf(x));
  const float log_sum = LogPartsOf(tail).log;
  const float large = 1.0f / (1.0f + tail);
  const float small = tail * large;
  const bool positive = x >= 0.0f;
  const float below = positive ? 0.0f : x;
  const float above = positive ? x : 0.0f;
  const float log_p = below - log_sum;
  SigmoidParts parts;
  parts.p = positive ? large : small;
  parts.not_p = positive ? small : large;
  parts.log_p = log_p < kLogOfSmallest ? kLogOfSmallest : log_p;
  parts.log_not = -above - log_sum;
  return parts;
}

// The focal loss with any exponent gamma. kGammaTwo: gamma is 2, so the power is a square.
template <bool kGammaTwo>
struct SigmoidFocal {
  float gamma;
  float positive_weight;  // alpha / max(foreground, 1)
  float negative_weight;  // (1 - alpha) / max(foreground, 1)

  // Returns base^gamma. The bound avoids 0 * infinity with gamma 0. Below the bound, the number
  // that the power is multiplied with is 0.
  DETECTRON_EXT_HOST_DEVICE float Power(float base, float log_base) const {
    const float bounded = log_base < kLogOfSmallest ? kLogOfSmallest : log_base;
    return kGammaTwo ? base * base : Exp(gamma * bounded);
  }

  // The loss of logit x. `positive`: whether its class is the label of its anchor.
  DETECTRON_EXT_HOST_DEVICE float Loss(float x, bool positive) const {
    const SigmoidParts s = SigmoidPartsOf(x);
    const float hit = -positive_weight * Power(s.not_p, s.log_not) * s.log_p;
    const float miss = -negative_weight * Power(s.p, s.log_p) * s.log_not;
    return positive ? hit : miss;
  }

  // The derivative of Loss.
  DETECTRON_EXT_HOST_DEVICE float Gradient(float x, bool positive) const {
    const SigmoidParts s = SigmoidPartsOf(x);
    const float hit =
        -positive_weight * Power(s.not_p, s.log_not) * (s.not_p - gamma * s.p * s.log_p);
    const float miss = -negative_weight * Power(s.p, s.log_p) * (gamma * s.not_p * s.log_not - s.p);
    return positive ? hit : miss;
  }
};

}  // namespace detectron_ext
