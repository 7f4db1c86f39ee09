// Elementary functions that compilers turn into vector code, and sums that stay the same.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace detectron_ext {

// Returns exp(x) for x <= 0; relative error below 2e-7. Arguments below -87 give exp(-87), which
// is 1.6e-38; a NaN gives a NaN.
inline float ExpNonPositive(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // few bits: n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  // Taylor's series up to r^7, |r| <= ln(2) / 2.
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The low bits of `shifted` hold n; moved into the exponent of 1.0 they make 2^n.
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 23) + 0x3f800000u;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}

// Returns log(1 + x) for 0 <= x <= 1; relative error below 2e-7.
inline float Log1pOfUnit(float x) {
  // log(1 + x) = 2 artanh(x / (2 + x)), whose series in z = (x / (2 + x))^2 <= 1/9 is short.
  const float s = x / (2.0f + x);
  const float z = s * s;
  float p = 1.0f / 13;
  p = p * z + 1.0f / 11;
  p = p * z + 1.0f / 9;
  p = p * z + 1.0f / 7;
  p = p * z + 1.0f / 5;
  p = p * z + 1.0f / 3;
  p = p * z + 1.0f;
  return 2.0f * s * p;
}

// Returns the sum of x[0 .. size) in double precision, always added in the same order.
inline double LaneSum(const float* x, int64_t size) {
  constexpr int kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += x[i + lane];
    }
  }
  for (; i < size; ++i) {
    lanes[0] += x[i];
  }
  double sum = 0;
  for (const double lane : lanes) {
    sum += lane;
  }
  return sum;
}

struct MomentSums {
  double sum;       // of x
  double products;  // of x * y
};

// Returns the sums of x and of x * y in double precision, always added in the same order.
inline MomentSums LaneMoments(const float* x, const float* y, int64_t size) {
  constexpr int kLanes = 16;
  double sums[kLanes] = {};
  double products[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = x[i + lane];
      sums[lane] += value;
      products[lane] += value * y[i + lane];
    }
  }
  for (; i < size; ++i) {
    const double value = x[i];
    sums[0] += value;
    products[0] += value * y[i];
  }
  MomentSums total{0, 0};
  for (int lane = 0; lane < kLanes; ++lane) {
    total.sum += sums[lane];
    total.products += products[lane];
  }
  return total;
}

}  // namespace detectron_ext
