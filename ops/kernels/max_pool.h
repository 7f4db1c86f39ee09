// Maximum over windows of many planes, and its gradient.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/parallel.h"

namespace detectron_ext {

struct PoolAxis {
  int64_t in;
  int64_t out;
  int64_t kernel;
  int64_t stride;
  int64_t pad;  // before the first element

  // First and one past the last input index of window `o`, cut to the plane.
  int64_t Begin(int64_t o) const { return std::max<int64_t>(o * stride - pad, 0); }
  int64_t End(int64_t o) const { return std::min(o * stride - pad + kernel, in); }
  // First and one past the last window whose tap k lies inside the plane.
  int64_t FirstWindow(int64_t k) const { return k >= pad ? 0 : (pad - k + stride - 1) / stride; }
  int64_t LastWindow(int64_t k) const {
    return in - 1 + pad - k < 0 ? 0 : std::min(out, (in - 1 + pad - k) / stride + 1);
  }
};

struct PoolShape {
  int64_t planes;
  PoolAxis h;
  PoolAxis w;
};

// Writes y. A NaN is never larger, so it is ignored; a window without other numbers gives the
// lowest float.
inline void MaxPool(const float* x, const PoolShape& shape, float* y, ParallelFor parallel_for) {
  const PoolAxis h = shape.h;
  const PoolAxis w = shape.w;
  ForEachBlock(parallel_for, shape.planes, 1, [=](int64_t plane, int64_t) {
    const float lowest = std::numeric_limits<float>::lowest();
    std::vector<float> column_max(w.in);  // maxima over the window's rows
    for (int64_t oy = 0; oy < h.out; ++oy) {
      std::fill(column_max.begin(), column_max.end(), lowest);
      float* const top = column_max.data();
      for (int64_t iy = h.Begin(oy); iy < h.End(oy); ++iy) {
        const float* row = x + (plane * h.in + iy) * w.in;
#pragma omp simd
        for (int64_t i = 0; i < w.in; ++i) {
          top[i] = top[i] < row[i] ? row[i] : top[i];
        }
      }
      float* const to = y + (plane * h.out + oy) * w.out;
      std::fill(to, to + w.out, lowest);
      for (int64_t k = 0; k < w.kernel; ++k) {
        const int64_t last = w.LastWindow(k);
#pragma omp simd
        for (int64_t o = w.FirstWindow(k); o < last; ++o) {
          const float value = top[o * w.stride - w.pad + k];
          to[o] = to[o] < value ? value : to[o];
        }
      }
    }
  });
}

// Writes dx. Every element that equals the maximum of its window gets the window's gradient, as in
// Caffe2.
inline void MaxPoolGradient(const float* x, const float* y, const float* dy, const PoolShape& shape,
                            float* dx, ParallelFor parallel_for) {
  const PoolAxis h = shape.h;
  const PoolAxis w = shape.w;
  ForEachBlock(parallel_for, shape.planes, 1, [=](int64_t plane, int64_t) {
    const int64_t first = plane * h.in * w.in;
    std::memset(dx + first, 0, h.in * w.in * sizeof(float));
    for (int64_t oy = 0; oy < h.out; ++oy) {
      const float* maxima = y + (plane * h.out + oy) * w.out;
      const float* slopes = dy + (plane * h.out + oy) * w.out;
      for (int64_t iy = h.Begin(oy); iy < h.End(oy); ++iy) {
        for (int64_t k = 0; k < w.kernel; ++k) {
          const int64_t tap = first + iy * w.in - w.pad + k;
          const int64_t last = w.LastWindow(k);
#pragma omp simd
          for (int64_t o = w.FirstWindow(k); o < last; ++o) {
            const float slope = slopes[o];  // always loaded: this avoids a branch
            dx[tap + o * w.stride] += x[tap + o * w.stride] == maxima[o] ? slope : 0.0f;
          }
        }
      }
    }
  });
}

}  // namespace detectron_ext
