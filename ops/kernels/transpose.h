// Transposes small squares of floats inside vector registers.
#pragma once

#include <cstdint>

namespace detectron_ext {

// A register of kSize floats, which can be loaded from any float's address, and one of kSize
// indices. They are specialisations because GCC ignores a vector's size that depends on a template
// parameter.
template <int kSize>
struct Register;
template <>
struct Register<4> {
  typedef float Floats __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int Indices __attribute__((vector_size(16)));
};
template <>
struct Register<8> {
  typedef float Floats __attribute__((vector_size(32), aligned(4), may_alias));
  typedef int Indices __attribute__((vector_size(32)));
};
template <>
struct Register<16> {
  typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
  typedef int Indices __attribute__((vector_size(64)));
};

// A square of kSize x kSize floats in kSize registers.
template <int kSize>
struct Square {
  using Row = typename Register<kSize>::Floats;
  using Lanes = typename Register<kSize>::Indices;

  // Swaps the upper right and the lower left block in every block of 2 kStep x 2 kStep.
  template <int kStep>
  inline __attribute__((always_inline)) void SwapBlocks() {
    Lanes upper;
    Lanes lower;
#pragma GCC unroll 16
    for (int i = 0; i < kSize; ++i) {
      upper[i] = i & kStep ? kSize + i - kStep : i;
      lower[i] = i & kStep ? kSize + i : i + kStep;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSize; ++i) {
      if (!(i & kStep)) {
        const Row top = row[i];
        const Row bottom = row[i + kStep];
        row[i] = __builtin_shuffle(top, bottom, upper);
        row[i + kStep] = __builtin_shuffle(top, bottom, lower);
      }
    }
  }

  Row row[kSize];
};

// to[column * to_stride + row] = from[row * from_stride + column] for rows and columns < kSize,
// which is 4, 8 or 16.
template <int kSize>
inline void TransposeSquare(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  static_assert(kSize == 4 || kSize == 8 || kSize == 16, "a size of vector registers");
  using Row = typename Square<kSize>::Row;
  Square<kSize> square;
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) {
    square.row[i] = *reinterpret_cast<const Row*>(from + i * from_stride);
  }
  square.template SwapBlocks<1>();
  square.template SwapBlocks<2>();
  if (kSize >= 8) {
    square.template SwapBlocks<kSize >= 8 ? 4 : 1>();
  }
  if (kSize >= 16) {
    square.template SwapBlocks<kSize >= 16 ? 8 : 1>();
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSize; ++i) {
    *reinterpret_cast<Row*>(to + i * to_stride) = square.row[i];
  }
}

}  // namespace detectron_ext
