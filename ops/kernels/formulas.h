// The formulas of every loss and resize, written once for the CPU and CUDA kernels.
//
// All functions are branch-free on floats, so that a compiler vectorises the loops around them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define DETECTRON_EXT_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define DETECTRON_EXT_HOST_DEVICE inline
#endif

namespace detectron_ext {

// ---------------------------------------------------------------------------------------------
// Elementary functions
// ---------------------------------------------------------------------------------------------

DETECTRON_EXT_HOST_DEVICE int32_t BitsOf(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

DETECTRON_EXT_HOST_DEVICE float FloatOf(int32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// Returns e^x with a relative error below 2e-7: 0 for x < -87.3, e^88 for x > 88, NaN for NaN.
//
// x = n ln(2) + r with |r| <= ln(2)/2; e^r is 1 + r + r^2 q(r), q a minimax polynomial of degree 4
// (truncation error 3.1e-9).
DETECTRON_EXT_HOST_DEVICE float Exp(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  const float bounded = x > 88.0f ? 88.0f : x;
  const float shifted = bounded * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (bounded - n * kLn2High) - n * kLn2Low;
  float q = 1.38145965e-3f;
  q = q * r + 8.36871751e-3f;
  q = q * r + 4.16683890e-2f;
  q = q * r + 1.66665211e-1f;
  q = q * r + 4.99999940e-1f;
  const float mantissa = (q * r * r + r) + 1.0f;
  const uint32_t exponent = static_cast<uint32_t>(BitsOf(shifted) - BitsOf(kRound) + 127);
  const float power = FloatOf(static_cast<int32_t>(exponent << 23));
  return x < -87.3f ? 0.0f : mantissa * power;
}

// The two parts of u * ln(u) - (u - 1), u = 1 + t, that balanced L1 needs for t >= 0.
struct LogParts {
  float log;    // ln(1 + t)
  float bowed;  // (1 + t) ln(1 + t) - t, which is t^2 / 2 near zero
};

// Returns LogParts of t, 0 <= t < 2^127, each with a relative error below 5e-7.
//
// 1 + t = 2^e m with m in [sqrt(1/2), sqrt(2)); ln(m) is f - f^2/2 + f^3 p(f), f = m - 1, p a
// minimax polynomial of degree 7 (truncation error 5.9e-9). Where e is 0, f is t itself and
// `bowed` comes from the same p without the cancellation of its definition.
DETECTRON_EXT_HOST_DEVICE LogParts LogPartsOf(float t) {
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr int32_t kSqrtHalfBits = 0x3f3504f3;
  const float u = 1.0f + t;
  const int32_t offset = BitsOf(u) - kSqrtHalfBits;
  const int32_t exponent = offset >> 23;
  const float m = FloatOf((offset & 0x007fffff) + kSqrtHalfBits);
  const bool small = exponent == 0;
  const float f = small ? t : m - 1.0f;
  const float e = static_cast<float>(exponent);
  float p = -7.63443783e-2f;
  p = p * f + 1.27615631e-1f;
  p = p * f - 1.31601974e-1f;
  p = p * f + 1.42017603e-1f;
  p = p * f - 1.66233554e-1f;
  p = p * f + 2.00012267e-1f;
  p = p * f - 2.50008225e-1f;
  p = p * f + 3.33333313e-1f;
  const float square = f * f;
  const float log = ((square * (f * p - 0.5f) + e * kLn2Low) + f) + e * kLn2High;
  const float near_zero = square * ((0.5f - 0.5f * f) + (f + square) * p);
  LogParts parts;
  parts.log = log;
  parts.bowed = small ? near_zero : u * log - t;
  return parts;
}

// ---------------------------------------------------------------------------------------------
// Balanced L1 (Libra R-CNN, arXiv:1904.02701, section 3.3)
// ---------------------------------------------------------------------------------------------

// b = e^(gamma / alpha) - 1 must leave room in a float.
constexpr double kMaxBalancedL1Exponent = 60.0;

enum class BalancedL1Formula { kContinuous, kMmdet };

// The loss of one difference, x its absolute value, t = b x / beta, b = e^(gamma / alpha) - 1:
//
//   x < beta:  alpha / b (beta bowed(t) + shift ln(1 + t))
//   else:      gamma x + beyond
//
// Continuous: shift 0, beyond beta (gamma / b - alpha). Mmdet: shift 1 - beta, beyond
// gamma / b - alpha beta. They agree at beta 1.
struct BalancedL1 {
  float beta;
  float gamma;
  float t_per_x;       // b / beta
  float bowed_weight;  // alpha beta / b
  float log_weight;    // alpha shift / b
  float beyond;
  float alpha;
  float jump;  // alpha shift / beta: the mmdet formula's slope at zero

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

// ---------------------------------------------------------------------------------------------
// Sigmoid focal loss (arXiv:1708.02002)
// ---------------------------------------------------------------------------------------------

// ln(FLT_MIN), at which Detectron cuts off the logarithms of the focal losses.
constexpr float kLogOfSmallest = -87.3365448f;

// Log-probabilities of a logit.
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

// Focal loss with a general exponent; kGammaTwo = true computes squares where gamma is 2.
template <bool kGammaTwo>
struct SigmoidFocal {
  float gamma;
  float positive_weight;  // alpha / max(foreground, 1)
  float negative_weight;  // (1 - alpha) / max(foreground, 1)

  // Beyond the bound what the power multiplies is 0; it keeps gamma 0 from meeting infinity.
  DETECTRON_EXT_HOST_DEVICE float Power(float base, float log_base) const {
    const float bounded = log_base < kLogOfSmallest ? kLogOfSmallest : log_base;
    return kGammaTwo ? base * base : Exp(gamma * bounded);
  }

  // The loss of logit x, whose class is the label of its anchor where `positive`.
  DETECTRON_EXT_HOST_DEVICE float Loss(float x, bool positive) const {
    const SigmoidParts s = SigmoidPartsOf(x);
    const float hit = -positive_weight * Power(s.not_p, s.log_not) * s.log_p;
    const float miss = -negative_weight * Power(s.p, s.log_p) * s.log_not;
    return positive ? hit : miss;
  }

  DETECTRON_EXT_HOST_DEVICE float Gradient(float x, bool positive) const {
    const SigmoidParts s = SigmoidPartsOf(x);
    const float hit =
        -positive_weight * Power(s.not_p, s.log_not) * (s.not_p - gamma * s.p * s.log_p);
    const float miss = -negative_weight * Power(s.p, s.log_p) * (gamma * s.not_p * s.log_not - s.p);
    return positive ? hit : miss;
  }
};

// ---------------------------------------------------------------------------------------------
// Resizing one axis from `in` to `out` positions, as PyTorch does
// ---------------------------------------------------------------------------------------------

// Int must hold (out + 1) * in.

// Adaptive pooling: output i covers input positions [PoolBegin, PoolEnd).
template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int PoolBegin(Int i, Int in, Int out) {
  return i * in / out;
}

template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int PoolEnd(Int i, Int in, Int out) {
  return ((i + 1) * in + out - 1) / out;
}

// Nearest resizing: the input position that output i repeats. Exact; PyTorch rounds in / out to a
// float first, which for a few pairs of sizes above 25 lands one lower.
template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int NearestIndex(Int i, Int in, Int out) {
  return i * in / out;
}

// The first output whose nearest input is `p` or later: outputs [CopiesBegin(p),
// CopiesBegin(p + 1)) repeat input p.
template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int CopiesBegin(Int p, Int in, Int out) {
  return (p * out + in - 1) / in;
}

// Whether `next` replaces `best` as the maximum of a scan: larger, or NaN.
DETECTRON_EXT_HOST_DEVICE bool Replaces(float next, float best) {
  return (next > best) | (next != next);
}

}  // namespace detectron_ext
