// Bits, exponentials and logarithms of floats, written once for the CPU and CUDA kernels.
//
// The functions have no branches on floats, so that a compiler vectorises the loops around them.
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

// Returns the bits of a float as an integer.
DETECTRON_EXT_HOST_DEVICE int32_t BitsOf(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// Returns the float that has these bits.
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
  // Unsigned: for x below about -8.7e6 the exponent is out of range, and is not used.
  const uint32_t exponent =
      static_cast<uint32_t>(BitsOf(shifted)) - static_cast<uint32_t>(BitsOf(kRound)) + 127u;
  const float power = FloatOf(static_cast<int32_t>(exponent << 23));
  return x < -87.3f ? 0.0f : mantissa * power;
}

// The logarithm of 1 + t, and the function of it that balanced L1 needs, for t >= 0.
struct LogParts {
  float log;    // ln(1 + t)
  float bowed;  // (1 + t) ln(1 + t) - t, which is t^2 / 2 near zero
};

// Returns LogParts of t, 0 <= t < 2^127, each with a relative error below 5e-7. Other t are
// allowed, but their results have no meaning. NaN gives NaN.
//
// 1 + t = 2^e m with m in [sqrt(1/2), sqrt(2)); ln(m) is f - f^2/2 + f^3 p(f), f = m - 1, p a
// minimax polynomial of degree 7 (truncation error 5.9e-9). Where e is 0, f is t itself and
// `bowed` comes from the same p without the cancellation of its definition.
DETECTRON_EXT_HOST_DEVICE LogParts LogPartsOf(float t) {
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr uint32_t kSqrtHalfBits = 0x3f3504f3u;
  const float u = 1.0f + t;
  // Unsigned, so that no t overflows; the exponent keeps its sign.
  const uint32_t offset = static_cast<uint32_t>(BitsOf(u)) - kSqrtHalfBits;
  const int32_t exponent = static_cast<int32_t>(offset) >> 23;
  const float m = FloatOf(static_cast<int32_t>((offset & 0x007fffffu) + kSqrtHalfBits));
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

}  // namespace detectron_ext
