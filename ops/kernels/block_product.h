// Register-blocked matrix products, the inner loops of attention and of 1x1 convolutions.
//
// A tile of kRows x (kVectors * kVectorWidth) outputs stays in registers during the loop over the
// depth. On one core of a Zen 4 processor a tile reaches 117 GFLOP/s, the core's peak. The sgemm of
// Caffe2's MKL reaches 30 to 40 there.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/simd.h"

namespace detectron_ext {

// The shape of a tile: its sums take 24 of the 32 AVX-512 registers, or 12 of the 16 of older sets.
constexpr int kTileRows = kVectorWidth == 16 ? 8 : 4;
constexpr int kTileVectors = 3;
constexpr int kTileColumns = kTileVectors * kVectorWidth;
// A narrower, taller tile for columns that are channels. Their number is seldom a multiple of three
// vectors.
constexpr int kTallTileRows = kVectorWidth == 16 ? 12 : 6;
constexpr int kTallTileVectors = 2;
constexpr int kTallTileColumns = kTallTileVectors * kVectorWidth;

// A product calls a function object in each step, to prefetch the data of the next product. This
// one does nothing.
struct NoPrefetch {
  void operator()(int64_t) const {}
};

// Makes the compiler hold `value` in a register where registers are few. GCC would otherwise read a
// vector of b from memory again for each row: a core with AVX2 loads two vectors while it multiplies
// two, so the loads, and not the multiplications, would then set the pace. With AVX-512, where half
// as many products need the same loads, GCC's own choice reaches the peak.
inline __attribute__((always_inline)) void HoldInRegister(FloatVector& value) {
#if defined(__FMA__) && !defined(__AVX512F__)
  asm("" : "+x"(value));
#else
  (void)value;
#endif
}

// sum[row] += a[row * kRowStride] * b, the products of one step of the depth. The vectors of b are
// vector_stride floats apart.
template <int kRowStride, int kRows, int kVectors>
inline __attribute__((always_inline)) void AddStep(const float* __restrict a,
                                                   const float* __restrict b,
                                                   FloatVector (&sum)[kRows][kVectors],
                                                   int64_t vector_stride = kVectorWidth) {
  FloatVector right[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    right[v] = LoadVector(b + v * vector_stride);
    HoldInRegister(right[v]);
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
    FloatVector left = Broadcast(a[row * kRowStride]);
    HoldInRegister(left);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[row][v] += left * right[v];
    }
  }
}

// sum[row] += sum over k < depth of a[row * kRowStride + k * kStepStride] * b[k], the products of
// MultiplyTile. Calls prefetch(k) at every step that is not in a whole panel.
template <int kRowStride, int kStepStride, int64_t kPanel = 0, int kRows, int kVectors,
          typename Prefetch = NoPrefetch>
inline __attribute__((always_inline)) void AddProducts(int64_t depth, const float* __restrict a,
                                                       const float* __restrict b,
                                                       int64_t panel_stride,
                                                       FloatVector (&sum)[kRows][kVectors],
                                                       const Prefetch& prefetch = Prefetch()) {
  constexpr int64_t kStep = kVectors * kVectorWidth;
  // Whole panels have a loop of their own, whose length the compiler knows.
  for (; kPanel > 0 && depth >= kPanel; depth -= kPanel, a += panel_stride) {
#pragma GCC unroll 8
    for (int64_t k = 0; k < kPanel; ++k, b += kStep) {
      AddStep<kRowStride>(a + k * kStepStride, b, sum);
    }
  }
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k, b += kStep) {
    prefetch(k);
    AddStep<kRowStride>(a + k * kStepStride, b, sum);
  }
}

// Computes for each row and column the sum over k < depth of
//
//   a[row * kRowStride + k * kStepStride] * b[k][column]
//
// and writes it to c[row][column], or adds it there if kAccumulate is set.
//
// b is depth x columns and c is rows x columns, both row-major without gaps. If a lies in panels,
// kPanel is the depth of a panel and panel_stride the distance between the starts of two.
template <int kRows, int kVectors, int kRowStride, int kStepStride, bool kAccumulate,
          int64_t kPanel = 0>
__attribute__((noinline)) void MultiplyTile(int64_t depth, const float* __restrict a,
                                            const float* __restrict b, float* __restrict c,
                                            int64_t panel_stride = 0) {
  FloatVector sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[row][v] =
          kAccumulate ? LoadVector(c + (row * kVectors + v) * kVectorWidth) : FloatVector{};
    }
  }
  AddProducts<kRowStride, kStepStride, kPanel>(depth, a, b, panel_stride, sum);
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      StoreVector(c + (row * kVectors + v) * kVectorWidth, sum[row][v]);
    }
  }
}

}  // namespace detectron_ext
