// Convolves planes of a depthwise convolution with their filters.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/copy_floats.h"
#include "kernels/depthwise_convolution.h"
#include "kernels/line_stream.h"
#include "kernels/packing.h"
#include "kernels/padded_rows.h"
#include "kernels/simd.h"

namespace detectron_ext {

// Rows of y that are computed together, because their windows share most of their rows of x.
constexpr int64_t kConvolvedRows = 4;

// Writes kVectors vectors of each of kRows rows of y, `width` apart. `top` points to the element of
// x under the first tap of the first window.
template <int kKernel, int kStride, int kRows, int kVectors>
inline void ConvolveTile(const float* top, const RowLayout& layout, const float* filter, float bias,
                         int64_t width, float* y) {
  FloatVector sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = FloatVector{} + bias;
    }
  }
#pragma GCC unroll 5
  for (int l = 0; l < kKernel; ++l) {
    const float* from = top + TapPlace<kStride>(l, layout.part);
#pragma GCC unroll 11
    for (int row = 0; row < (kRows - 1) * kStride + kKernel; ++row, from += layout.size()) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const FloatVector value = InRegister(LoadVector(from + v * kVectorWidth));
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
          const int k = row - i * kStride;
          if (k >= 0 && k < kKernel) {
            sum[i][v] += filter[k * kKernel + l] * value;
          }
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      StoreVector(y + i * width + v * kVectorWidth, sum[i][v]);
    }
  }
}

// Writes kRows rows of y, one after another, and up to a vector behind them. Vectors reach past the
// ends of the rows. They are written from right to left, so that the next row overwrites that.
template <int kKernel, int kStride, int kRows>
void ConvolveRows(const float* top, const RowLayout& layout, int64_t width, const float* filter,
                  float bias, float* y) {
  constexpr int64_t kPair = 2 * kVectorWidth;
  int64_t j = RoundUp(width, kVectorWidth);
  if (j % kPair != 0) {
    j -= kVectorWidth;
    ConvolveTile<kKernel, kStride, kRows, 1>(top + j, layout, filter, bias, width, y + j);
  }
  while (j > 0) {
    j -= kPair;
    ConvolveTile<kKernel, kStride, kRows, 2>(top + j, layout, filter, bias, width, y + j);
  }
}

// Convolves planes. An object holds the memory of a thread.
template <int kKernel, int kStride>
class PlaneConvolution {
 public:
  PlaneConvolution(const DepthwiseShape& shape, const float* x, const float* filter,
                   const float* bias)
      : shape_(shape),
        x_(x),
        filter_(filter),
        bias_(bias),
        layout_{kStride, RoundUp(shape.w.out, kVectorWidth) + (kKernel - 1) / kStride, shape.w.pad},
        strip_(layout_, kKernel, shape.h.out),
        rows_(layout_, shape.h.in, shape.w.in, std::min<int64_t>(2, strip_.planes) * strip_.rows),
        stream_(kConvolvedRows * shape.w.out,
                shape.images * shape.channels * shape.out_plane() >= kPastCachesFloats) {}

  // Writes planes [begin, end) of y, and may overwrite the planes behind them, up to own_end.
  void Run(int64_t begin, int64_t end, int64_t own_end, float* y) {
    stream_.Start(y + begin * shape_.out_plane(), y + own_end * shape_.out_plane());
    if (strip_.planes > 1) {
      ConvolveWhole(begin, end);
    } else {
      for (int64_t plane = begin; plane < end; ++plane) {
        ConvolveInStrips(plane);
      }
    }
    stream_.Finish();
  }

 private:
  // Small planes are asked for this long before they are loaded.
  static constexpr int64_t kFloatsAhead = 1024;
  // The rows of x under a tile, and those under a tile and the one below it.
  static constexpr int64_t kRowsOfTile = (kConvolvedRows - 1) * kStride + kKernel;
  static constexpr int64_t kRowsOfTwo = kConvolvedRows * kStride + kRowsOfTile;

  // Loads a plane before it convolves the one before it: a processor waits if it reads what it has
  // just stored at other borders of vectors.
  void ConvolveWhole(int64_t begin, int64_t end) {
    const auto row = [&](int64_t plane) { return (plane - begin) % 2 * strip_.rows; };
    const auto load = [&](int64_t plane) {
      rows_.LoadInside(x_ + plane * shape_.in_plane(), -shape_.h.pad, strip_.rows, row(plane));
    };
    load(begin);
    for (int64_t plane = begin; plane < end; ++plane) {
      if (plane + 1 < end) {
        Prefetch((plane + 2) * shape_.in_plane() + kFloatsAhead);
        load(plane + 1);
      }
      for (int64_t i = 0; i < shape_.h.out; i += kConvolvedRows) {
        ConvolveTiles(plane, row(plane) + i * kStride, shape_.h.out - i);
      }
    }
  }

  // Asks for a plane's number of floats of x, from number `first` on.
  void Prefetch(int64_t first) const {
    const int64_t size = shape_.images * shape_.channels * shape_.in_plane();
    PrefetchFloats(x_ + first, std::min(shape_.in_plane(), size - first));
  }

  // Loads the rows of a tile before it computes the tile above it.
  void ConvolveInStrips(int64_t plane) {
    for (int64_t first = 0; first < shape_.h.out; first += strip_.count) {
      const int64_t count = std::min(strip_.count, shape_.h.out - first);
      const int64_t rows = (count - 1) * kStride + kKernel;
      int64_t loaded = 0;
      for (int64_t i = 0; i < count; i += kConvolvedRows) {
        const int64_t end = std::min(rows, i * kStride + kRowsOfTwo);
        rows_.Load(x_ + plane * shape_.in_plane(), first * kStride - shape_.h.pad + loaded,
                   end - loaded, loaded);
        loaded = end;
        ConvolveTiles(plane, i * kStride, count - i);
      }
    }
  }

  // Writes the next rows of y: as many as a tile has, or `left` if that is less. at: the first of
  // their rows of x in memory.
  void ConvolveTiles(int64_t plane, int64_t at, int64_t left) {
    constexpr decltype(&ConvolveRows<kKernel, kStride, 1>) kConvolve[] = {
        ConvolveRows<kKernel, kStride, 1>, ConvolveRows<kKernel, kStride, 2>,
        ConvolveRows<kKernel, kStride, 3>, ConvolveRows<kKernel, kStride, 4>};
    const int64_t channel = plane % shape_.channels;
    const int64_t count = std::min(left, kConvolvedRows);
    kConvolve[count - 1](rows_.Row(at), layout_, shape_.w.out, filter_ + channel * shape_.taps(),
                         bias_ == nullptr ? 0.0f : bias_[channel], stream_.Next());
    stream_.Advance(count * shape_.w.out);
  }

  const DepthwiseShape shape_;
  const float* const x_;
  const float* const filter_;
  const float* const bias_;
  const RowLayout layout_;
  const Strip strip_;
  PaddedRows rows_;
  LineStream stream_;
};

}  // namespace detectron_ext
