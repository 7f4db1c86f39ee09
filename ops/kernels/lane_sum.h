// Sums whose additions have a fixed order. They are split into lanes, which a compiler turns into
// vectors.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/parallel.h"

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

constexpr int64_t kSumBlock = 16384;  // elements of one block of work

// Returns the sum of value(i), a float, over i in [0, size), always added in the same order. One
// loop computes the values of a run and another one adds them, so that compilers vectorise both.
template <typename Value>
double SumOverElements(ParallelFor parallel_for, int64_t size, const Value& value) {
  return SumOverBlocks(parallel_for, size, kSumBlock, [=](int64_t begin, int64_t end) {
    constexpr int64_t kRun = 512;
    float values[kRun];
    double sum = 0;
    for (int64_t first = begin; first < end; first += kRun) {
      const int64_t length = std::min(kRun, end - first);
      for (int64_t i = 0; i < length; ++i) {
        values[i] = value(first + i);
      }
      sum += LaneSum(values, length);
    }
    return sum;
  });
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
