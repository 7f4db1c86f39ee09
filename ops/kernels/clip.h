// y = x limited to a range, and its gradient. y may be x, and dx may be dy.
#pragma once

#include <cstdint>

#include "kernels/elementwise.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct ClipRange {
  float lowest;
  float highest;
};

// A NaN stays NaN. If lowest is above highest, y is lowest, as in Caffe2.
inline void Clip(const float* x, const ClipRange& range, int64_t size, float* y,
                 ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kElementwiseBlock, [=](int64_t begin, int64_t end) {
    const float lowest = range.lowest;
    const float highest = range.highest;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float below = x[i] > highest ? highest : x[i];
      y[i] = below < lowest ? lowest : below;
    }
  });
}

// dx = dy where lowest < y < highest, else 0. So dx is 0 where y is one of the limits.
inline void ClipGradient(const float* y, const float* dy, const ClipRange& range, int64_t size,
                         float* dx, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kElementwiseBlock, [=](int64_t begin, int64_t end) {
    const float lowest = range.lowest;
    const float highest = range.highest;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float slope = dy[i];  // always loaded: a branch would prevent vector code
      dx[i] = (y[i] > lowest) & (y[i] < highest) ? slope : 0.0f;
    }
  });
}

}  // namespace detectron_ext
