// The positions that a convolution with 1x1 filters visits, and where they lie in its tensors.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/pointwise_convolution.h"
#include "kernels/simd.h"

namespace detectron_ext {

// Consecutive positions of one row of one image.
struct PositionRun {
  int64_t image;
  int64_t row;
  int64_t column;
  int64_t count;
  int64_t at;  // number of positions between the start of the range of ForEachRun and this run
};

// The positions of y, numbered through all images.
struct Positions {
  explicit Positions(const PointwiseShape& shape)
      : height(shape.out_height()),
        width(shape.out_width()),
        count(shape.images * height * width) {}

  // The run of `size` positions from `first` on, which must lie in one row.
  PositionRun RunAt(int64_t first, int64_t size) const {
    const int64_t row = first / width;
    return {row / height, row % height, first % width, size, 0};
  }

  // Whether the `size` positions from `first` on lie in one row.
  bool InOneRow(int64_t first, int64_t size) const { return first % width + size <= width; }

  // Calls body(run) for the runs that make up [first, last).
  template <typename Body>
  void ForEachRun(int64_t first, int64_t last, const Body& body) const {
    for (int64_t at = first; at < last;) {
      PositionRun run = RunAt(at, std::min(last - at, width - at % width));
      run.at = at - first;
      body(run);
      at += run.count;
    }
  }

  int64_t height;
  int64_t width;
  int64_t count;
};

// A tensor (images, channels, height, width). Every stride_y-th row and stride_x-th column of it is
// visited.
template <typename Float>
struct Planes {
  Float* data;
  int64_t channels;
  int64_t height;
  int64_t width;
  int64_t stride_y;
  int64_t stride_x;

  int64_t plane() const { return height * width; }
  bool dense() const { return stride_y == 1 && stride_x == 1; }
  // The element of a channel at the first position of a run.
  Float* At(const PositionRun& run, int64_t channel) const {
    return data + (run.image * channels + channel) * plane() + run.row * stride_y * width +
        run.column * stride_x;
  }
};

template <typename Float>
Planes<Float> InputPlanes(const PointwiseShape& shape, Float* x) {
  return {x, shape.in_channels, shape.height, shape.width, shape.stride_y, shape.stride_x};
}

template <typename Float>
Planes<Float> OutputPlanes(const PointwiseShape& shape, Float* y) {
  return {y, shape.out_channels, shape.out_height(), shape.out_width(), 1, 1};
}

// Returns the same convolution with as few rows as possible: without a stride a plane is one row.
inline PointwiseShape Flattened(PointwiseShape shape) {
  if (shape.stride_y == 1 && shape.stride_x == 1) {
    shape.width *= shape.height;
    shape.height = 1;
  }
  return shape;
}

// to[i] = from[i * stride] for i < count.
inline void CopyStrided(const float* __restrict from, int64_t stride, int64_t count,
                        float* __restrict to) {
  if (stride == 1) {
    int64_t i = 0;
    for (; i + kVectorWidth <= count; i += kVectorWidth) {
      StoreVector(to + i, LoadVector(from + i));
    }
    for (; i < count; ++i) {
      to[i] = from[i];
    }
  } else if (stride == 2) {  // a constant, which compiles to shuffles
    for (int64_t i = 0; i < count; ++i) {
      to[i] = from[2 * i];
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      to[i] = from[stride * i];
    }
  }
}

}  // namespace detectron_ext
