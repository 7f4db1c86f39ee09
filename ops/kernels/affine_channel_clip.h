// y = scale[c] * x + bias[c] limited to a range, and its gradient, in one pass over the map each.
#pragma once

#include <cstdint>

#include "kernels/affine_channel.h"
#include "kernels/clip.h"
#include "kernels/parallel.h"

namespace detectron_ext {

// Writes y, which may be x. A NaN stays NaN. If lowest is above highest, y is lowest, as in Clip.
inline void AffineChannelClip(const float* x, const float* scale, const float* bias,
                              const AffineChannelShape& shape, const ClipRange& range, float* y,
                              ParallelFor parallel_for) {
  const int64_t planes = shape.images * shape.channels;
  ForEachBlock(parallel_for, planes, shape.block(), [=](int64_t begin, int64_t end) {
    const float lowest = range.lowest;
    const float highest = range.highest;
    for (int64_t p = begin; p < end; ++p) {
      const float s = scale[p % shape.channels];
      const float b = bias[p % shape.channels];
#pragma omp simd
      for (int64_t i = p * shape.plane; i < (p + 1) * shape.plane; ++i) {
        const float line = s * x[i] + b;
        const float below = line > highest ? highest : line;
        y[i] = below < lowest ? lowest : below;
      }
    }
  });
}

// dx = scale[c] * dy where lowest < y < highest, else 0. dx may be dy.
inline void AffineChannelClipGradient(const float* y, const float* dy, const float* scale,
                                      const AffineChannelShape& shape, const ClipRange& range,
                                      float* dx, ParallelFor parallel_for) {
  const int64_t planes = shape.images * shape.channels;
  ForEachBlock(parallel_for, planes, shape.block(), [=](int64_t begin, int64_t end) {
    const float lowest = range.lowest;
    const float highest = range.highest;
    for (int64_t p = begin; p < end; ++p) {
      const float s = scale[p % shape.channels];
#pragma omp simd
      for (int64_t i = p * shape.plane; i < (p + 1) * shape.plane; ++i) {
        const float slope = s * dy[i];  // always computed: a branch would prevent vector code
        dx[i] = (y[i] > lowest) & (y[i] < highest) ? slope : 0.0f;
      }
    }
  });
}

}  // namespace detectron_ext
