// The gradient of the input of a depthwise convolution at stride 2.
//
// Element p of a padded row of x lies under tap k of window (p - k) / 2 if p - k is even. So even
// elements are multiplied only with taps 0, 2 and 4, and odd elements only with taps 1 and 3. The
// same holds for rows. d_x is computed in pairs of rows. The even and the odd elements of a row are
// computed in vectors of their own, which are then interleaved.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/depthwise_convolution.h"
#include "kernels/padded_rows.h"
#include "kernels/parallel_scratch.h"
#include "kernels/simd.h"

namespace detectron_ext {

// Where d_x lies on one axis of the padded map. Its elements p = pad ... pad + in - 1 are grouped
// into pairs (2 m, 2 m + 1) of an even and an odd element.
struct PairedAxis {
  explicit PairedAxis(const DepthwiseAxis& axis)
      : first(axis.pad / 2),
        skipped(axis.pad % 2),
        count(axis.in == 0 ? 0 : (skipped + axis.in - 1) / 2 + 1) {}

  int64_t first;    // m of the first pair
  int64_t skipped;  // 1 if d_x starts with the odd element of a pair
  int64_t count;    // number of pairs
};

// The sums for kVectors vectors of pairs of columns in a pair of rows.
template <int kVectors>
struct PairSums {
  FloatVector at[2][2][kVectors] = {};  // [row][column]
};

// Adds the products with row kRow of d_y, counted upwards from the lowest row. Row kRow is
// multiplied by the filter's rows 2 kRow and 2 kRow + 1. `from` points to the element of the row
// that the last even tap multiplies in the first pair.
template <int kKernel, int kRow, int kVectors>
inline __attribute__((always_inline)) void AddSlopes(const float* from, const float* filter,
                                                     PairSums<kVectors>& sums) {
  constexpr int kLast = kKernel / 2;
#pragma GCC unroll 3
  for (int i = 0; i <= kLast; ++i) {
#pragma GCC unroll 2
    for (int row = 0; row < 2; ++row) {
#pragma GCC unroll 2
      for (int column = 0; column < 2; ++column) {
        const int k = 2 * kRow + row;
        const int l = 2 * i + column;
        if (k < kKernel && l < kKernel) {
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            sums.at[row][column][v] +=
                filter[k * kKernel + l] * LoadVector(from + kLast - i + v * kVectorWidth);
          }
        }
      }
    }
  }
}

// Computes kVectors vectors of pairs of columns in a pair of rows. `bottom` points to the element
// of the lowest row of d_y that the last even tap multiplies in the first pair. The results are
// four runs, to_stride apart: the even and the odd elements of the first row, then those of the
// second.
template <int kKernel, int kVectors>
inline void SumPairs(const float* bottom, int64_t row_size, const float* filter, float* to,
                     int64_t to_stride) {
  PairSums<kVectors> sums;
  AddSlopes<kKernel, 0>(bottom, filter, sums);
  AddSlopes<kKernel, 1>(bottom - row_size, filter, sums);
  if (kKernel == 5) {
    AddSlopes<kKernel, 2>(bottom - 2 * row_size, filter, sums);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      StoreVector(to + i * to_stride + v * kVectorWidth, sums.at[i / 2][i % 2][v]);
    }
  }
}

// Writes a row of d_x from its even and its odd elements. skipped: the row starts with the odd
// element of the first pair.
inline void Interleave(const float* even, const float* odd, bool skipped, int64_t width,
                       float* __restrict d_x) {
  const float* const left = skipped ? odd : even;
  const float* const right = skipped ? even + 1 : odd;
  for (int64_t i = 0; i < width / 2; ++i) {
    d_x[2 * i] = left[i];
    d_x[2 * i + 1] = right[i];
  }
  if (width % 2 != 0) {
    d_x[width - 1] = left[width / 2];
  }
}

// Computes planes of d_x. An object holds the memory for any plane.
template <int kKernel>
class PlaneSpread {
 public:
  explicit PlaneSpread(const DepthwiseShape& shape)
      : shape_(shape),
        h_(shape.h),
        w_(shape.w),
        layout_{1, RoundUp(w_.count, kVectorWidth) + kReach, kReach - w_.first},
        strip_(std::max<int64_t>(1, std::min(h_.count, kStripFloats / layout_.size() - kReach))),
        rows_(layout_, shape.h.out, shape.w.out, strip_ + kReach),
        sums_(4 * padded_count()) {}

  // Writes a plane of d_x.
  void Run(const float* filter, const float* d_y, float* d_x) {
    for (int64_t pair = 0; pair < h_.count; pair += strip_) {
      const int64_t end = std::min(pair + strip_, h_.count);
      rows_.Load(d_y, h_.first + pair - kReach, end - pair + kReach);
      for (int64_t i = pair; i < end; ++i) {
        SpreadPair(i, rows_.Row(i - pair + kReach), filter, d_x);
      }
    }
  }

 private:
  // A pair depends on the windows of its own number and on those of this many numbers before.
  static constexpr int64_t kReach = kKernel / 2;

  int64_t padded_count() const { return RoundUp(w_.count, kVectorWidth); }

  // Writes the two rows of a pair, or one if the other one lies outside the map.
  void SpreadPair(int64_t pair, const float* bottom, const float* filter, float* d_x) {
    SumRows(bottom, filter);
    for (int64_t odd = 0; odd < 2; ++odd) {
      const int64_t row = 2 * pair + odd - h_.skipped;
      const float* const even_sums = sums_.data() + 2 * odd * padded_count();
      if (row >= 0 && row < shape_.h.in) {
        Interleave(even_sums, even_sums + padded_count(), w_.skipped != 0, shape_.w.in,
                   d_x + row * shape_.w.in);
      }
    }
  }

  // Computes a pair of rows into sums_.
  void SumRows(const float* bottom, const float* filter) {
    constexpr int64_t kPair = 2 * kVectorWidth;
    int64_t m = 0;
    for (; m + kPair <= padded_count(); m += kPair) {
      SumPairs<kKernel, 2>(bottom + m, layout_.size(), filter, sums_.data() + m, padded_count());
    }
    if (m < padded_count()) {
      SumPairs<kKernel, 1>(bottom + m, layout_.size(), filter, sums_.data() + m, padded_count());
    }
  }

  const DepthwiseShape shape_;
  const PairedAxis h_;
  const PairedAxis w_;
  const RowLayout layout_;
  const int64_t strip_;  // pairs of rows at a time
  PaddedRows rows_;
  FloatBuffer sums_;  // of a pair of rows, as SumPairs writes them
};

// Writes all planes of d_x.
template <int kKernel>
void SpreadPlanes(const DepthwiseShape& shape, const float* filter, const float* d_y, float* d_x,
                  ParallelFor parallel_for) {
  ForEachBlockWithScratch(
      parallel_for, shape.images * shape.channels, shape.block(),
      [&] { return PlaneSpread<kKernel>(shape); },
      [&](int64_t begin, int64_t end, PlaneSpread<kKernel>& spread) {
        for (int64_t plane = begin; plane < end; ++plane) {
          spread.Run(filter + plane % shape.channels * shape.taps(),
                     d_y + plane * shape.out_plane(), d_x + plane * shape.in_plane());
        }
      });
}

}  // namespace detectron_ext
