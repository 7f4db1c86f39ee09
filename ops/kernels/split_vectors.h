// Splits a sequence of two vectors by the parity of its places, and joins them again.
#pragma once

#include "kernels/simd.h"

namespace detectron_ext {

typedef int IndexVector __attribute__((vector_size(kVectorWidth * sizeof(int))));

// The elements at even and at odd places of a sequence of two vectors.
struct SplitVectors {
  FloatVector even;
  FloatVector odd;
};

inline SplitVectors SplitByParity(FloatVector low, FloatVector high) {
#if defined(__AVX__) && !defined(__AVX512F__)
  // Shuffles within halves of a vector are the cheapest, so the halves are exchanged first.
  const FloatVector outer = __builtin_shuffle(low, high, IndexVector{0, 1, 2, 3, 8, 9, 10, 11});
  const FloatVector inner = __builtin_shuffle(low, high, IndexVector{4, 5, 6, 7, 12, 13, 14, 15});
  return {__builtin_shuffle(outer, inner, IndexVector{0, 2, 8, 10, 4, 6, 12, 14}),
          __builtin_shuffle(outer, inner, IndexVector{1, 3, 9, 11, 5, 7, 13, 15})};
#else
  IndexVector even;
#pragma GCC unroll 16
  for (int i = 0; i < kVectorWidth; ++i) {
    even[i] = 2 * i;
  }
  return {__builtin_shuffle(low, high, even), __builtin_shuffle(low, high, even + 1)};
#endif
}

// The first and the second half of a sequence.
struct JoinedVectors {
  FloatVector low;
  FloatVector high;
};

// The inverse of SplitByParity.
inline JoinedVectors JoinByParity(FloatVector even, FloatVector odd) {
#if defined(__AVX__) && !defined(__AVX512F__)
  const FloatVector outer = __builtin_shuffle(even, odd, IndexVector{0, 8, 1, 9, 4, 12, 5, 13});
  const FloatVector inner = __builtin_shuffle(even, odd, IndexVector{2, 10, 3, 11, 6, 14, 7, 15});
  return {__builtin_shuffle(outer, inner, IndexVector{0, 1, 2, 3, 8, 9, 10, 11}),
          __builtin_shuffle(outer, inner, IndexVector{4, 5, 6, 7, 12, 13, 14, 15})};
#else
  IndexVector low;
#pragma GCC unroll 16
  for (int i = 0; i < kVectorWidth; ++i) {
    low[i] = i / 2 + i % 2 * kVectorWidth;
  }
  return {__builtin_shuffle(even, odd, low), __builtin_shuffle(even, odd, low + kVectorWidth / 2)};
#endif
}

}  // namespace detectron_ext
