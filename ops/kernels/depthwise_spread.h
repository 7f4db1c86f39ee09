// The gradient of the input of a depthwise convolution at stride 2.
//
// Element p of a padded row of x lies under tap k of window (p - k) / 2 if p - k is even. So even
// elements are multiplied only with taps 0, 2 and 4, and odd elements only with taps 1 and 3. The
// same holds for rows. d_x is computed in pairs of rows. The even and the odd elements of a row are
// computed in vectors of their own, which are then joined.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/copy_floats.h"
#include "kernels/depthwise_convolution.h"
#include "kernels/line_stream.h"
#include "kernels/padded_rows.h"
#include "kernels/simd.h"
#include "kernels/split_vectors.h"

namespace detectron_ext {

// Where rows of d_x lie in the padded map. Its rows p = pad ... pad + in - 1 are grouped into pairs
// (2 m, 2 m + 1) of an even and an odd row.
struct PairedRows {
  explicit PairedRows(const DepthwiseAxis& axis)
      : first(axis.pad / 2),
        skipped(axis.pad % 2),
        count(axis.in == 0 ? 0 : (skipped + axis.in - 1) / 2 + 1) {}

  int64_t first;    // m of the first pair
  int64_t skipped;  // 1 if d_x starts with the odd row of a pair
  int64_t count;    // number of pairs
};

// Computes kVectors vectors of pairs of columns in a pair of rows, and stores each row's elements
// joined. A pair is an even and an odd column, or if kOddFirst is 1, an odd column and the even one
// after it. `bottom` points to the leftmost element of the lowest row of d_y that the first pair
// needs. The second row is written to_stride behind the first.
template <int kKernel, int kOddFirst, int kVectors>
inline void SpreadTile(const float* bottom, int64_t row_size, const float* filter, float* to,
                       int64_t to_stride) {
  constexpr int kReach = kKernel / 2;
  FloatVector sum[2][2][kVectors] = {};  // [row][parity of the column]
#pragma GCC unroll 3
  for (int i = 0; i <= kReach; ++i) {  // rows of d_y, from the lowest one upwards
#pragma GCC unroll 3
    for (int j = 0; j <= kReach; ++j) {  // columns of d_y
      FloatVector value[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        value[v] = InRegister(LoadVector(bottom - i * row_size + j + v * kVectorWidth));
      }
#pragma GCC unroll 2
      for (int row = 0; row < 2; ++row) {
#pragma GCC unroll 2
        for (int parity = 0; parity < 2; ++parity) {
          const int k = 2 * i + row;
          const int l = 2 * (kReach - j) + (parity == 0 ? 0 : 1 - 2 * kOddFirst);
          if (k < kKernel && l >= 0 && l < kKernel) {
            const float tap = filter[k * kKernel + l];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
              sum[row][parity][v] += tap * value[v];
            }
          }
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int row = 0; row < 2; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const JoinedVectors joined = JoinByParity(sum[row][kOddFirst][v], sum[row][1 - kOddFirst][v]);
      float* const at = to + row * to_stride + 2 * v * kVectorWidth;
      StoreVector(at, joined.low);
      StoreVector(at + kVectorWidth, joined.high);
    }
  }
}

// Computes planes of d_x. An object holds the memory of a thread.
template <int kKernel, int kOddFirst>
class PlaneSpread {
 public:
  PlaneSpread(const DepthwiseShape& shape, const float* filter, const float* d_y)
      : shape_(shape),
        filter_(filter),
        d_y_(d_y),
        pairs_(shape.h),
        columns_(DivideUp(shape.w.in, 2)),
        layout_{1, RoundUp(columns_, kVectorWidth) + kReach, kReach - kOddFirst - shape.w.pad / 2},
        strip_(layout_, kReach + 1, pairs_.count),
        rows_(layout_, shape.h.out, shape.w.out, strip_.rows),
        two_rows_(2 * shape.w.in + LineStream::kSlack),
        stream_(2 * shape.w.in,
                shape.images * shape.channels * shape.in_plane() >= kPastCachesFloats) {}

  // Writes planes [begin, end) of d_x, and may overwrite the planes behind them, up to own_end.
  void Run(int64_t begin, int64_t end, int64_t own_end, float* d_x) {
    stream_.Start(d_x + begin * shape_.in_plane(), d_x + own_end * shape_.in_plane());
    for (int64_t plane = begin; plane < end; ++plane) {
      SpreadPlane(filter_ + plane % shape_.channels * shape_.taps(),
                  d_y_ + plane * shape_.out_plane());
    }
    stream_.Finish();
  }

 private:
  // A pair of rows depends on the windows of its own number and on those of this many numbers before.
  static constexpr int64_t kReach = kKernel / 2;
  // Pairs whose rows of d_y are loaded before a pair is computed, so that the processor does not
  // wait for what it has just stored.
  static constexpr int64_t kPairsAhead = 4;

  void SpreadPlane(const float* filter, const float* d_y) {
    for (int64_t first = 0; first < pairs_.count; first += strip_.count) {
      const int64_t count = std::min(strip_.count, pairs_.count - first);
      int64_t loaded = 0;
      for (int64_t pair = 0; pair < count; ++pair) {
        if (loaded < pair + 1 + kReach) {
          const int64_t end = std::min(count, pair + kPairsAhead) + kReach;
          rows_.Load(d_y, pairs_.first + first - kReach + loaded, end - loaded, loaded);
          loaded = end;
        }
        SpreadPair(first + pair, rows_.Row(pair + kReach), filter);
      }
    }
  }

  // Writes the two rows of a pair, or one if the other one lies outside the map.
  void SpreadPair(int64_t pair, const float* bottom, const float* filter) {
    const int64_t width = shape_.w.in;
    const int64_t row = 2 * pair - pairs_.skipped;
    if (row >= 0 && row + 1 < shape_.h.in) {
      SpreadRows(bottom, filter, stream_.Next());
      stream_.Advance(2 * width);
    } else {
      SpreadRows(bottom, filter, two_rows_.data());
      CopyFloats(two_rows_.data() + (row < 0 ? width : 0), width, stream_.Next());
      stream_.Advance(width);
    }
  }

  // Writes two rows, and up to two vectors behind each of them. Vectors are written from right to
  // left, so that the second row overwrites what lies behind the first.
  void SpreadRows(const float* bottom, const float* filter, float* to) const {
    constexpr int64_t kPair = 2 * kVectorWidth;
    int64_t j = RoundUp(columns_, kVectorWidth);
    if (j % kPair != 0) {
      j -= kVectorWidth;
      SpreadTile<kKernel, kOddFirst, 1>(bottom + j, layout_.size(), filter, to + 2 * j,
                                        shape_.w.in);
    }
    while (j > 0) {
      j -= kPair;
      SpreadTile<kKernel, kOddFirst, 2>(bottom + j, layout_.size(), filter, to + 2 * j,
                                        shape_.w.in);
    }
  }

  const DepthwiseShape shape_;
  const float* const filter_;
  const float* const d_y_;
  const PairedRows pairs_;
  const int64_t columns_;  // number of pairs of columns
  const RowLayout layout_;
  const Strip strip_;  // of pairs of rows
  PaddedRows rows_;
  FloatBuffer two_rows_;
  LineStream stream_;
};

}  // namespace detectron_ext
