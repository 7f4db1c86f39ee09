// Nearest-neighbour upsampling of the last two axes by a whole factor, and its gradient.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/parallel.h"

namespace detectron_ext {

// rows: the product of all axes but the last one of the smaller tensor; width: its last axis. The
// larger tensor has `scale` times the width and, for each row, `scale` equal rows.
struct UpsampleShape {
  int64_t rows;
  int64_t width;
  int64_t scale;

  // Rows of one block of work: whole rows, about 16K elements of the larger tensor.
  int64_t block() const {
    const int64_t per_row = width * scale * scale;
    return per_row >= 16384 ? 1 : 16384 / (per_row > 0 ? per_row : 1);
  }
};

// Writes the larger tensor.
inline void UpsampleNearest(const float* small, const UpsampleShape& shape, float* large,
                            ParallelFor parallel_for) {
  const int64_t wide = shape.width * shape.scale;
  ForEachBlock(parallel_for, shape.rows, shape.block(), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = small + row * shape.width;
      float* to = large + row * shape.scale * wide;
      if (shape.scale == 2) {
        for (int64_t x = 0; x < shape.width; ++x) {
          to[2 * x] = from[x];
          to[2 * x + 1] = from[x];
        }
      } else {
        for (int64_t x = 0; x < wide; ++x) {
          to[x] = from[x / shape.scale];
        }
      }
      for (int64_t copy = 1; copy < shape.scale; ++copy) {
        std::memcpy(to + copy * wide, to, wide * sizeof(float));
      }
    }
  });
}

// Writes the smaller tensor: each element is the sum of the gradients of its scale x scale copies.
inline void UpsampleNearestGradient(const float* large, const UpsampleShape& shape, float* small,
                                    ParallelFor parallel_for) {
  const int64_t wide = shape.width * shape.scale;
  ForEachBlock(parallel_for, shape.rows, shape.block(), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = large + row * shape.scale * wide;
      float* to = small + row * shape.width;
      if (shape.scale == 2) {
        for (int64_t x = 0; x < shape.width; ++x) {
          to[x] = (from[2 * x] + from[2 * x + 1]) + (from[wide + 2 * x] + from[wide + 2 * x + 1]);
        }
        continue;
      }
      for (int64_t x = 0; x < shape.width; ++x) {
        float sum = 0;
        for (int64_t i = 0; i < shape.scale; ++i) {
          for (int64_t j = 0; j < shape.scale; ++j) {
            sum += from[i * wide + x * shape.scale + j];
          }
        }
        to[x] = sum;
      }
    }
  });
}

}  // namespace detectron_ext
