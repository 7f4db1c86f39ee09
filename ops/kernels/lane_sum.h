// Sums whose additions have a fixed order, in lanes that a compiler turns into vectors.
#pragma once

#include <cstdint>

namespace detectron_ext {

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
