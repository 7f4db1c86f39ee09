// The gradient of a depthwise convolution's filters: sums over the windows of all planes of a
// channel.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/copy_floats.h"
#include "kernels/depthwise_convolution.h"
#include "kernels/packing.h"
#include "kernels/padded_rows.h"
#include "kernels/simd.h"

namespace detectron_ext {

// The sums of one channel, one for every tap and lane.
template <int kKernel>
struct TapSums {
  FloatVector lanes[kKernel * kKernel] = {};

  void Write(float* d_filter) const {
    for (int tap = 0; tap < kKernel * kKernel; ++tap) {
      double sum = 0;
      for (int lane = 0; lane < kVectorWidth; ++lane) {
        sum += lanes[tap][lane];
      }
      d_filter[tap] = static_cast<float>(sum);
    }
  }
};

// Rows of d_y that are multiplied together, because their windows share most of their rows of x.
constexpr int64_t kMultipliedRows = 4;

// The number of columns of taps whose sums fit in the registers together with kMultipliedRows vectors of
// d_y.
#if defined(__AVX512F__)
constexpr int kTapColumns = 5;
#else
constexpr int kTapColumns = 2;
#endif

// Adds the products of the taps in kColumns columns, from column kFirst on, with a vector in each
// of kRows rows of d_y. `from` points to the element of x under tap 0 of the uppermost row.
template <int kKernel, int kStride, int kFirst, int kRows, int kColumns>
inline __attribute__((always_inline)) void AddTile(const float* from, const RowLayout& layout,
                                                   const float* slopes, int64_t slopes_stride,
                                                   FloatVector (&sum)[kKernel][kColumns]) {
  FloatVector slope[kRows];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
    slope[i] = LoadVector(slopes + i * slopes_stride);
  }
#pragma GCC unroll 11
  for (int row = 0; row < (kRows - 1) * kStride + kKernel; ++row, from += layout.size()) {
#pragma GCC unroll 5
    for (int l = 0; l < kColumns; ++l) {
      const FloatVector value = LoadVector(from + TapPlace<kStride>(kFirst + l, layout.part));
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        const int k = row - i * kStride;
        if (k >= 0 && k < kKernel) {
          sum[k][l] += slope[i] * value;
        }
      }
    }
  }
}

// Strips of x and of d_y in memory, one after another.
struct LoadedStrips {
  const PaddedRows& x;
  const PaddedRows& d_y;
  int64_t strips;
  int64_t x_rows;  // of a strip
  int64_t rows;    // of d_y in a strip
};

// Adds the products of some columns of taps with a tile of kRows rows of d_y, from row i of a strip
// on.
template <int kKernel, int kStride, int kFirst, int kRows, int kColumns>
inline void AddRows(const LoadedStrips& loaded, int64_t strip, int64_t i,
                    FloatVector (&sum)[kKernel][kColumns]) {
  const float* const x = loaded.x.Row(strip * loaded.x_rows + i * kStride);
  const float* const d_y = loaded.d_y.Row(strip * loaded.rows + i);
  const int64_t width = loaded.d_y.layout().part;
  for (int64_t j = 0; j < width; j += kVectorWidth) {
    AddTile<kKernel, kStride, kFirst, kRows>(x + j, loaded.x.layout(), d_y + j, width, sum);
  }
}

// Adds the products of some columns of taps. before_tile(strip, i) is called before each tile.
template <int kKernel, int kStride, int kFirst, int kColumns, typename BeforeTile>
void AddTapColumns(const LoadedStrips& loaded, const BeforeTile& before_tile,
                   TapSums<kKernel>& sums) {
  FloatVector sum[kKernel][kColumns] = {};
  for (int64_t strip = 0; strip < loaded.strips; ++strip) {
    int64_t i = 0;
    for (; i + kMultipliedRows <= loaded.rows; i += kMultipliedRows) {
      before_tile(strip, i);
      AddRows<kKernel, kStride, kFirst, kMultipliedRows>(loaded, strip, i, sum);
    }
    const int64_t left = loaded.rows - i;
    if (left == 1) {
      AddRows<kKernel, kStride, kFirst, 1>(loaded, strip, i, sum);
    } else if (left == 2) {
      AddRows<kKernel, kStride, kFirst, 2>(loaded, strip, i, sum);
    } else if (left == 3) {
      AddRows<kKernel, kStride, kFirst, 3>(loaded, strip, i, sum);
    }
  }
#pragma GCC unroll 5
  for (int k = 0; k < kKernel; ++k) {
#pragma GCC unroll 5
    for (int l = 0; l < kColumns; ++l) {
      sums.lanes[k * kKernel + kFirst + l] += sum[k][l];
    }
  }
}

// Adds the products of all taps. before_tile(strip, i) is called once for each tile.
template <int kStride, typename BeforeTile>
void AddStrips(const LoadedStrips& loaded, const BeforeTile& before_tile, TapSums<3>& sums) {
  AddTapColumns<3, kStride, 0, 3>(loaded, before_tile, sums);
}

template <int kStride, typename BeforeTile>
void AddStrips(const LoadedStrips& loaded, const BeforeTile& before_tile, TapSums<5>& sums) {
  if (kTapColumns == 5) {
    AddTapColumns<5, kStride, 0, 5>(loaded, before_tile, sums);
  } else {
    const auto nothing = [](int64_t, int64_t) {};
    AddTapColumns<5, kStride, 0, 2>(loaded, before_tile, sums);
    AddTapColumns<5, kStride, 2, 2>(loaded, nothing, sums);
    AddTapColumns<5, kStride, 4, 1>(loaded, nothing, sums);
  }
}

// The gradients of the filters of single channels. An object holds the memory for any channel.
template <int kKernel, int kStride>
class FilterGradient {
 public:
  explicit FilterGradient(const DepthwiseShape& shape)
      : shape_(shape),
        width_(RoundUp(shape.w.out, kVectorWidth)),
        layout_{kStride, width_ + (kKernel - 1) / kStride, shape.w.pad},
        strip_(layout_, kKernel, shape.h.out),
        planes_(std::max<int64_t>(1, std::min(strip_.planes, shape.images))),
        x_rows_(layout_, shape.h.in, shape.w.in, planes_ * strip_.rows),
        d_y_rows_({1, width_, 0}, shape.h.out, shape.w.out, planes_ * strip_.count) {}

  // Writes the filter's gradient of a channel. Calls after_images(begin, end) when it has read the
  // channel's planes of images [begin, end).
  template <typename AfterImages>
  void Run(int64_t channel, const float* x, const float* d_y, float* d_filter,
           const AfterImages& after_images) {
    TapSums<kKernel> sums;
    for (int64_t image = 0; image < shape_.images; image += planes_) {
      for (Part part{channel, image, 0}; part.image == image && part.channel == channel;
           part = After(part)) {
        AddPart(part, x, d_y, sums);
      }
      after_images(image, std::min(image + planes_, shape_.images));
    }
    sums.Write(d_filter);
  }

 private:
  // Windows that are in memory at a time: those of several small planes, or a strip of a plane.
  struct Part {
    int64_t channel;
    int64_t image;  // the first one
    int64_t row;    // of d_y
  };

  Part After(const Part& part) const {
    if (part.row + strip_.count < shape_.h.out) {
      return {part.channel, part.image, part.row + strip_.count};
    }
    if (part.image + planes_ < shape_.images) {
      return {part.channel, part.image + planes_, 0};
    }
    return {part.channel + 1, 0, 0};
  }

  // The offset of a part's n-th plane.
  int64_t XPlane(const Part& part, int64_t n) const {
    return ((part.image + n) * shape_.channels + part.channel) * shape_.in_plane();
  }
  int64_t SlopePlane(const Part& part, int64_t n) const {
    return ((part.image + n) * shape_.channels + part.channel) * shape_.out_plane();
  }

  void AddPart(const Part& part, const float* x, const float* d_y, TapSums<kKernel>& sums) {
    const int64_t planes = std::min(planes_, shape_.images - part.image);
    const int64_t count = std::min(strip_.count, shape_.h.out - part.row);
    const int64_t rows = (count - 1) * kStride + kKernel;
    for (int64_t n = 0; n < planes; ++n) {
      x_rows_.Load(x + XPlane(part, n), part.row * kStride - shape_.h.pad, rows, n * rows);
      d_y_rows_.Load(d_y + SlopePlane(part, n), part.row, count, n * count);
    }
    const Part next = After(part);
    AddStrips<kStride>(
        {x_rows_, d_y_rows_, planes, rows, count},
        [&](int64_t n, int64_t i) { Prefetch(next, n, i, x, d_y); }, sums);
  }

  // Asks for what a tile needs from row i of a part's n-th plane on.
  void Prefetch(const Part& part, int64_t n, int64_t i, const float* x, const float* d_y) const {
    if (part.channel < shape_.channels && part.image + n < shape_.images) {
      const int64_t row = part.row + i;
      PrefetchRows(d_y + SlopePlane(part, n), shape_.h.out, shape_.w.out, row, kMultipliedRows);
      PrefetchRows(x + XPlane(part, n), shape_.h.in, shape_.w.in, row * kStride,
                   kMultipliedRows * kStride);
    }
  }

  static void PrefetchRows(const float* plane, int64_t height, int64_t width, int64_t first,
                           int64_t count) {
    PrefetchFloats(plane + first * width, std::min(count, height - first) * width);
  }

  const DepthwiseShape shape_;
  const int64_t width_;
  const RowLayout layout_;
  const Strip strip_;
  const int64_t planes_;  // planes that are in memory at a time
  PaddedRows x_rows_;
  PaddedRows d_y_rows_;
};

}  // namespace detectron_ext
