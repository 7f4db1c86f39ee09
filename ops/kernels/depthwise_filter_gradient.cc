// The gradients of filter and bias: sums over the windows of all planes of a channel.
#include <algorithm>

#include "kernels/depthwise_convolution.h"
#include "kernels/lane_sum.h"
#include "kernels/padded_rows.h"
#include "kernels/parallel_scratch.h"
#include "kernels/simd.h"

namespace detectron_ext {
namespace {

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
constexpr int64_t kTileRows = 4;

// The number of columns of taps whose sums fit in the registers together with kTileRows vectors of
// d_y.
#if defined(__AVX512F__)
constexpr int kTapColumns = 5;
#else
constexpr int kTapColumns = 2;
#endif

// Adds the products of the taps in kColumns columns, from column kFirst on, with a vector in each
// of kTileRows rows of d_y. `from` points to the element of x under tap 0 of the uppermost row.
template <int kKernel, int kStride, int kFirst, int kColumns>
inline __attribute__((always_inline)) void AddTile(const float* from, const RowLayout& layout,
                                                   const float* slopes, int64_t slopes_stride,
                                                   FloatVector (&sum)[kKernel][kColumns]) {
  FloatVector slope[kTileRows];
#pragma GCC unroll 4
  for (int i = 0; i < kTileRows; ++i) {
    slope[i] = LoadVector(slopes + i * slopes_stride);
  }
#pragma GCC unroll 11
  for (int row = 0; row < (kTileRows - 1) * kStride + kKernel; ++row, from += layout.size()) {
#pragma GCC unroll 5
    for (int l = 0; l < kColumns; ++l) {
      const FloatVector value = LoadVector(from + TapPlace<kStride>(kFirst + l, layout.part));
#pragma GCC unroll 4
      for (int i = 0; i < kTileRows; ++i) {
        const int k = row - i * kStride;
        if (k >= 0 && k < kKernel) {
          sum[k][l] += slope[i] * value;
        }
      }
    }
  }
}

// Adds the products of some columns of taps with `count` rows of d_y, a multiple of kTileRows.
template <int kKernel, int kStride, int kFirst, int kColumns>
void AddTapColumns(const PaddedRows& x, const PaddedRows& d_y, int64_t count,
                   TapSums<kKernel>& sums) {
  const int64_t width = d_y.layout().part;
  FloatVector sum[kKernel][kColumns] = {};
  for (int64_t i = 0; i < count; i += kTileRows) {
    for (int64_t j = 0; j < width; j += kVectorWidth) {
      AddTile<kKernel, kStride, kFirst, kColumns>(x.Row(i * kStride) + j, x.layout(),
                                                  d_y.Row(i) + j, width, sum);
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

// Adds the products of all taps with `count` rows of d_y, a multiple of kTileRows.
template <int kStride>
void AddStrip(const PaddedRows& x, const PaddedRows& d_y, int64_t count, TapSums<3>& sums) {
  AddTapColumns<3, kStride, 0, 3>(x, d_y, count, sums);
}

template <int kStride>
void AddStrip(const PaddedRows& x, const PaddedRows& d_y, int64_t count, TapSums<5>& sums) {
  if (kTapColumns == 5) {
    AddTapColumns<5, kStride, 0, 5>(x, d_y, count, sums);
  } else {
    AddTapColumns<5, kStride, 0, 2>(x, d_y, count, sums);
    AddTapColumns<5, kStride, 2, 2>(x, d_y, count, sums);
    AddTapColumns<5, kStride, 4, 1>(x, d_y, count, sums);
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
        strip_(RoundUp(WindowsOfStrip(layout_, kKernel, shape.h.out), kTileRows)),
        x_rows_(layout_, shape.h.in, shape.w.in, (strip_ - 1) * kStride + kKernel),
        d_y_rows_({1, width_, 0}, shape.h.out, shape.w.out, strip_) {}

  // Writes the filter's gradient. x and d_y point to the channel's plane of the first image.
  void Run(const float* x, const float* d_y, float* d_filter) {
    TapSums<kKernel> sums;
    for (int64_t n = 0; n < shape_.images; ++n) {
      AddPlane(x + n * shape_.channels * shape_.in_plane(),
               d_y + n * shape_.channels * shape_.out_plane(), sums);
    }
    sums.Write(d_filter);
  }

 private:
  void AddPlane(const float* x, const float* d_y, TapSums<kKernel>& sums) {
    for (int64_t first = 0; first < shape_.h.out; first += strip_) {
      // Rows below the last one count as zeros.
      const int64_t count = RoundUp(std::min(strip_, shape_.h.out - first), kTileRows);
      x_rows_.Load(x, first * kStride - shape_.h.pad, (count - 1) * kStride + kKernel);
      d_y_rows_.Load(d_y, first, count);
      AddStrip<kStride>(x_rows_, d_y_rows_, count, sums);
    }
  }

  const DepthwiseShape shape_;
  const int64_t width_;
  const RowLayout layout_;
  const int64_t strip_;
  PaddedRows x_rows_;
  PaddedRows d_y_rows_;
};

// Returns the gradient of a channel's bias. d_y points to the channel's plane of the first image.
float BiasGradient(const DepthwiseShape& shape, const float* d_y) {
  double sum = 0;
  for (int64_t n = 0; n < shape.images; ++n) {
    sum += LaneSum(d_y + n * shape.channels * shape.out_plane(), shape.out_plane());
  }
  return static_cast<float>(sum);
}

template <int kKernel, int kStride>
void SumChannels(const DepthwiseShape& shape, const float* x, const float* d_y, float* d_filter,
                 float* d_bias, ParallelFor parallel_for) {
  const int64_t block = std::max<int64_t>(1, shape.block() / std::max<int64_t>(1, shape.images));
  ForEachBlockWithScratch(
      parallel_for, shape.channels, block, [&] { return FilterGradient<kKernel, kStride>(shape); },
      [&](int64_t begin, int64_t end, FilterGradient<kKernel, kStride>& gradient) {
        for (int64_t c = begin; c < end; ++c) {
          gradient.Run(x + c * shape.in_plane(), d_y + c * shape.out_plane(),
                       d_filter + c * shape.taps());
          if (d_bias != nullptr) {
            d_bias[c] = BiasGradient(shape, d_y + c * shape.out_plane());
          }
        }
      });
}

}  // namespace

void DepthwiseFilterGradient(const DepthwiseShape& shape, const float* x, const float* d_y,
                             float* d_filter, float* d_bias, ParallelFor parallel_for) {
  const auto sum = shape.kernel == 3 ? (shape.stride == 1 ? SumChannels<3, 1> : SumChannels<3, 2>)
                                     : (shape.stride == 1 ? SumChannels<5, 1> : SumChannels<5, 2>);
  sum(shape, x, d_y, d_filter, d_bias, parallel_for);
}

}  // namespace detectron_ext
