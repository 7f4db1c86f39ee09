// Balanced L1 (Libra R-CNN, arXiv:1904.02701, section 3.3) of one difference.
#pragma once

#include <cmath>

#include "kernels/elementary.h"

namespace detectron_ext {

// The largest gamma / alpha: b = e^(gamma / alpha) - 1 and its products must fit in a float.
constexpr int kMaxBalancedL1Exponent = 60;

enum class BalancedL1Formula { kContinuous, kMmdet };

// A formula of a box loss; kernels/dense_loss.h says what it must have. The loss is
//
//   x < beta:  alpha / b (beta bowed(t) + shift ln(1 + t))
//   else:      gamma x + beyond
//
// where x = |difference|, b = e^(gamma / alpha) - 1, t = b x / beta,
// bowed(t) = (1 + t) ln(1 + t) - t, and
//
//   continuous:  shift = 0,        beyond = beta (gamma / b - alpha)
//   mmdet:       shift = 1 - beta, beyond = gamma / b - alpha beta
//
// The two formulas are equal at beta 1.
struct BalancedL1 {
  float beta;
  float gamma;
  float t_per_x;       // b / beta
  float bowed_weight;  // alpha beta / b
  float log_weight;    // alpha shift / b
  float beyond;        // what is added to gamma x from beta on
  float alpha;
  float jump;  // alpha shift / beta: the slope of the mmdet formula at 0

  // alpha, gamma and beta must be positive, gamma / alpha at most kMaxBalancedL1Exponent.
  BalancedL1(double alpha_value, double gamma_value, double beta_value, BalancedL1Formula formula) {
    const bool continuous = formula == BalancedL1Formula::kContinuous;
    const double b = std::expm1(gamma_value / alpha_value);
    const double shift = continuous ? 0.0 : 1.0 - beta_value;
    beta = static_cast<float>(beta_value);
    gamma = static_cast<float>(gamma_value);
    alpha = static_cast<float>(alpha_value);
    t_per_x = static_cast<float>(b / beta_value);
    bowed_weight = static_cast<float>(alpha_value * beta_value / b);
    log_weight = static_cast<float>(alpha_value * shift / b);
    jump = static_cast<float>(alpha_value * shift / beta_value);
    beyond = static_cast<float>(continuous ? beta_value * (gamma_value / b - alpha_value)
                                           : gamma_value / b - alpha_value * beta_value);
  }

  DETECTRON_EXT_HOST_DEVICE float Loss(float difference) const {
    const float x = fabsf(difference);
    const bool inside = x < beta;
    const LogParts parts = LogPartsOf(inside ? x * t_per_x : 0.0f);
    const float near = bowed_weight * parts.bowed + log_weight * parts.log;
    return inside ? near : gamma * x + beyond;
  }

  // The derivative of Loss; 0 at 0, NaN at NaN.
  DETECTRON_EXT_HOST_DEVICE float Gradient(float difference) const {
    const float x = fabsf(difference);
    const bool inside = x < beta;
    const float t = inside ? x * t_per_x : 0.0f;
    const float slope = alpha * LogPartsOf(t).log;
    const float near = (slope < gamma ? slope : gamma) + jump / (1.0f + t);
    const float size = inside ? near : gamma;
    const float negative = difference < 0.0f ? -size : difference;
    return difference > 0.0f ? size : negative;
  }
};

}  // namespace detectron_ext
