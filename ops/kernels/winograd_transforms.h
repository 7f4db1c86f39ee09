// Winograd's minimal filtering of 3 taps in one dimension: F(2, 3) and F(4, 3), and its adjoints.
//
// F(m, 3) computes m outputs of a filter of 3 taps from m + 2 inputs with m + 2 products:
//
//   outputs = Output(Filter(taps) * Input(inputs))
//
// Filter and Input evaluate polynomials at m + 1 points and at infinity, and Output interpolates.
// F(2, 3) uses the points 0, 1 and -1. F(4, 3) uses 0, +-sqrt(1/2) and +-sqrt(2). Their squares are
// each other's inverse, so the matrices' elements stay near 1, and the rounding error is about half
// of that with the points 0, +-1 and +-2.
//
// In two dimensions every row is transformed, and then every column. Every number is a vector of
// kVectorWidth channels.
#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace detectron_ext {

template <int kOutputs>
struct MinimalFilter;

template <>
struct MinimalFilter<2> {
  static constexpr int kProducts = 4;

  struct Input {
    static constexpr int kFrom = 4, kTo = 4;
    static inline void Run(const FloatVector (&x)[4], FloatVector (&y)[4]) {
      y[0] = x[0] - x[2];
      y[1] = x[2] + x[1];
      y[2] = x[2] - x[1];
      y[3] = x[3] - x[1];
    }
  };
  struct Filter {
    static constexpr int kFrom = 3, kTo = 4;
    static inline void Run(const FloatVector (&g)[3], FloatVector (&u)[4]) {
      const FloatVector even = 0.5f * (g[0] + g[2]);
      const FloatVector odd = 0.5f * g[1];
      u[0] = g[0];
      u[1] = even + odd;
      u[2] = even - odd;
      u[3] = g[2];
    }
  };
  struct Output {
    static constexpr int kFrom = 4, kTo = 2;
    static inline void Run(const FloatVector (&m)[4], FloatVector (&y)[2]) {
      y[0] = m[0] + (m[1] + m[2]);
      y[1] = m[3] + (m[1] - m[2]);
    }
  };
  // The transpose of Output: gradients of outputs to gradients of products.
  struct OutputGradient {
    static constexpr int kFrom = 2, kTo = 4;
    static inline void Run(const FloatVector (&y)[2], FloatVector (&m)[4]) {
      m[0] = y[0];
      m[1] = y[0] + y[1];
      m[2] = y[0] - y[1];
      m[3] = y[1];
    }
  };
  // The transpose of Filter: gradients of transformed filters to gradients of taps.
  struct FilterGradient {
    static constexpr int kFrom = 4, kTo = 3;
    static inline void Run(const FloatVector (&u)[4], FloatVector (&g)[3]) {
      const FloatVector even = 0.5f * (u[1] + u[2]);
      g[0] = u[0] + even;
      g[1] = 0.5f * (u[1] - u[2]);
      g[2] = u[3] + even;
    }
  };
};

template <>
struct MinimalFilter<4> {
  static constexpr int kProducts = 6;
  static constexpr float kNear = 0.70710678118654752f;  // sqrt(1/2)
  static constexpr float kFar = 1.41421356237309505f;   // sqrt(2)

  struct Input {
    static constexpr int kFrom = 6, kTo = 6;
    static inline void Run(const FloatVector (&x)[6], FloatVector (&y)[6]) {
      const FloatVector near_even = x[4] - 2.0f * x[2];
      const FloatVector near_odd = kNear * (x[3] - 2.0f * x[1]);
      const FloatVector far_even = x[4] - 0.5f * x[2];
      const FloatVector far_odd = kFar * (x[3] - 0.5f * x[1]);
      y[0] = x[0] + (x[4] - 2.5f * x[2]);
      y[1] = near_even + near_odd;
      y[2] = near_even - near_odd;
      y[3] = far_even + far_odd;
      y[4] = far_even - far_odd;
      y[5] = x[1] + (x[5] - 2.5f * x[3]);
    }
  };
  struct Filter {
    static constexpr int kFrom = 3, kTo = 6;
    static inline void Run(const FloatVector (&g)[3], FloatVector (&u)[6]) {
      const FloatVector near_even = (-2.0f / 3) * g[0] - (1.0f / 3) * g[2];
      const FloatVector near_odd = (-2.0f / 3 * kNear) * g[1];
      const FloatVector far_even = (1.0f / 6) * g[0] + (1.0f / 3) * g[2];
      const FloatVector far_odd = (kFar / 6) * g[1];
      u[0] = g[0];
      u[1] = near_even + near_odd;
      u[2] = near_even - near_odd;
      u[3] = far_even + far_odd;
      u[4] = far_even - far_odd;
      u[5] = g[2];
    }
  };
  struct Output {
    static constexpr int kFrom = 6, kTo = 4;
    static inline void Run(const FloatVector (&m)[6], FloatVector (&y)[4]) {
      const FloatVector near_sum = m[1] + m[2];
      const FloatVector near_difference = kNear * (m[1] - m[2]);
      const FloatVector far_sum = m[3] + m[4];
      const FloatVector far_difference = kFar * (m[3] - m[4]);
      y[0] = m[0] + (near_sum + far_sum);
      y[1] = near_difference + far_difference;
      y[2] = 0.5f * near_sum + 2.0f * far_sum;
      y[3] = m[5] + (0.5f * near_difference + 2.0f * far_difference);
    }
  };
  struct OutputGradient {
    static constexpr int kFrom = 4, kTo = 6;
    static inline void Run(const FloatVector (&y)[4], FloatVector (&m)[6]) {
      const FloatVector near_even = y[0] + 0.5f * y[2];
      const FloatVector near_odd = kNear * (y[1] + 0.5f * y[3]);
      const FloatVector far_even = y[0] + 2.0f * y[2];
      const FloatVector far_odd = kFar * (y[1] + 2.0f * y[3]);
      m[0] = y[0];
      m[1] = near_even + near_odd;
      m[2] = near_even - near_odd;
      m[3] = far_even + far_odd;
      m[4] = far_even - far_odd;
      m[5] = y[3];
    }
  };
  struct FilterGradient {
    static constexpr int kFrom = 6, kTo = 3;
    static inline void Run(const FloatVector (&u)[6], FloatVector (&g)[3]) {
      const FloatVector near_sum = u[1] + u[2];
      const FloatVector far_sum = u[3] + u[4];
      g[0] = u[0] + ((1.0f / 6) * far_sum - (2.0f / 3) * near_sum);
      g[1] = (kFar / 6) * (u[3] - u[4]) - (2.0f / 3 * kNear) * (u[1] - u[2]);
      g[2] = u[5] + (1.0f / 3) * (far_sum - near_sum);
    }
  };
};

// Transforms the columns and then the rows of a square. load(row, column) returns an element, and
// store(row, column, value) takes one of the result.
template <typename Transform, typename Load, typename Store>
inline __attribute__((always_inline)) void TransformSquare(const Load& load, const Store& store) {
  constexpr int kFrom = Transform::kFrom;
  constexpr int kTo = Transform::kTo;
  FloatVector half[kTo][kFrom];
#pragma GCC unroll 6
  for (int column = 0; column < kFrom; ++column) {
    FloatVector from[kFrom];
    FloatVector to[kTo];
#pragma GCC unroll 6
    for (int row = 0; row < kFrom; ++row) {
      from[row] = load(row, column);
    }
    Transform::Run(from, to);
#pragma GCC unroll 6
    for (int row = 0; row < kTo; ++row) {
      half[row][column] = to[row];
    }
  }
#pragma GCC unroll 6
  for (int row = 0; row < kTo; ++row) {
    FloatVector to[kTo];
    Transform::Run(half[row], to);
#pragma GCC unroll 6
    for (int column = 0; column < kTo; ++column) {
      store(row, column, to[column]);
    }
  }
}

}  // namespace detectron_ext
