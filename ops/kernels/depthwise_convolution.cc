// The forward pass and the gradient of the input. At stride 1 that gradient is a convolution of d_y
// with the filter rotated by 180 degrees. depthwise_spread.h computes it at stride 2.
#include "kernels/depthwise_convolution.h"

#include <algorithm>

#include "kernels/depthwise_spread.h"
#include "kernels/padded_rows.h"
#include "kernels/parallel_scratch.h"
#include "kernels/simd.h"

namespace detectron_ext {
namespace {

// Rows of y that are computed together, because their windows share most of their rows of x.
constexpr int64_t kTileRows = 4;

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

// Writes kRows rows of y. The last vector of a row ends with the row, so it may compute some
// elements again.
template <int kKernel, int kStride, int kRows>
void ConvolveRows(const float* top, const RowLayout& layout, int64_t width, const float* filter,
                  float bias, float* y) {
  constexpr int64_t kPair = 2 * kVectorWidth;
  if (width < kVectorWidth) {
    float whole[kRows * kVectorWidth];
    ConvolveTile<kKernel, kStride, kRows, 1>(top, layout, filter, bias, kVectorWidth, whole);
    for (int i = 0; i < kRows; ++i) {
      CopyFloats(whole + i * kVectorWidth, width, y + i * width);
    }
    return;
  }
  int64_t j = 0;
  for (; width - j > kVectorWidth && width >= kPair; j += kPair) {
    const int64_t at = std::min(j, width - kPair);
    ConvolveTile<kKernel, kStride, kRows, 2>(top + at, layout, filter, bias, width, y + at);
  }
  for (; j < width; j += kVectorWidth) {
    const int64_t at = std::min(j, width - kVectorWidth);
    ConvolveTile<kKernel, kStride, kRows, 1>(top + at, layout, filter, bias, width, y + at);
  }
}

// Returns the layout of rows of x for whole vectors of windows.
RowLayout LayoutOf(const DepthwiseShape& shape) {
  return {shape.stride, RoundUp(shape.w.out, kVectorWidth) + (shape.kernel - 1) / shape.stride,
          shape.w.pad};
}

// Writes `count` rows of y. The last tile may compute some rows again.
template <int kKernel, int kStride>
void ConvolveStrip(const PaddedRows& rows, const UpcomingRows& upcoming, int64_t count,
                   int64_t width, const float* filter, float bias, float* y) {
  if (count < kTileRows) {
    for (int64_t i = 0; i < count; ++i) {
      ConvolveRows<kKernel, kStride, 1>(rows.Row(i * kStride), rows.layout(), width, filter, bias,
                                        y + i * width);
    }
    return;
  }
  for (int64_t i = 0; i < count; i += kTileRows) {
    const int64_t at = std::min(i, count - kTileRows);
    upcoming.Prefetch(i * kStride, kTileRows * kStride);
    ConvolveRows<kKernel, kStride, kTileRows>(rows.Row(at * kStride), rows.layout(), width, filter,
                                              bias, y + at * width);
  }
}

// Writes a plane of y. x points to the plane. x_size: the number of floats from there to the end of
// the tensor.
template <int kKernel, int kStride>
void ConvolvePlane(const DepthwiseShape& shape, int64_t strip, const float* x, int64_t x_size,
                   const float* filter, float bias, PaddedRows& rows, float* y) {
  for (int64_t first = 0; first < shape.h.out; first += strip) {
    const int64_t count = std::min(strip, shape.h.out - first);
    const int64_t first_row = first * kStride - shape.h.pad;
    const int64_t row_count = (count - 1) * kStride + kKernel;
    rows.Load(x, first_row, row_count);
    const UpcomingRows upcoming(x, x_size, shape.w.in, first_row + row_count);
    ConvolveStrip<kKernel, kStride>(rows, upcoming, count, shape.w.out, filter, bias,
                                    y + first * shape.w.out);
  }
}

template <int kKernel, int kStride>
void ConvolvePlanes(const DepthwiseShape& shape, const float* x, const float* filter,
                    const float* bias, float* y, ParallelFor parallel_for) {
  const RowLayout layout = LayoutOf(shape);
  const int64_t strip = WindowsOfStrip(layout, kKernel, shape.h.out);
  const int64_t planes = shape.images * shape.channels;
  ForEachBlockWithScratch(
      parallel_for, planes, shape.block(),
      [&] { return PaddedRows(layout, shape.h.in, shape.w.in, (strip - 1) * kStride + kKernel); },
      [&](int64_t begin, int64_t end, PaddedRows& rows) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const int64_t channel = plane % shape.channels;
          ConvolvePlane<kKernel, kStride>(
              shape, strip, x + plane * shape.in_plane(), (planes - plane) * shape.in_plane(),
              filter + channel * shape.taps(), bias == nullptr ? 0.0f : bias[channel], rows,
              y + plane * shape.out_plane());
        }
      });
}

// Writes the filters rotated by 180 degrees.
void RotateFilters(const DepthwiseShape& shape, const float* filter, float* rotated) {
  for (int64_t c = 0; c < shape.channels; ++c) {
    const int64_t first = c * shape.taps();
    std::reverse_copy(filter + first, filter + first + shape.taps(), rotated + first);
  }
}

// Returns the shape of the convolution of d_y that gives d_x at stride 1.
DepthwiseShape InputGradientShape(const DepthwiseShape& shape) {
  DepthwiseShape gradient = shape;
  gradient.h = {shape.h.out, shape.h.in, shape.kernel - 1 - shape.h.pad};
  gradient.w = {shape.w.out, shape.w.in, shape.kernel - 1 - shape.w.pad};
  return gradient;
}

}  // namespace

void DepthwiseConvolution(const DepthwiseShape& shape, const float* x, const float* filter,
                          const float* bias, float* y, ParallelFor parallel_for) {
  const auto convolve = shape.kernel == 3
      ? (shape.stride == 1 ? ConvolvePlanes<3, 1> : ConvolvePlanes<3, 2>)
      : (shape.stride == 1 ? ConvolvePlanes<5, 1> : ConvolvePlanes<5, 2>);
  convolve(shape, x, filter, bias, y, parallel_for);
}

void DepthwiseInputGradient(const DepthwiseShape& shape, const float* filter, const float* d_y,
                            float* d_x, ParallelFor parallel_for) {
  if (shape.stride == 2) {
    const auto spread = shape.kernel == 3 ? SpreadPlanes<3> : SpreadPlanes<5>;
    spread(shape, filter, d_y, d_x, parallel_for);
    return;
  }
  FloatBuffer rotated(shape.channels * shape.taps());
  RotateFilters(shape, filter, rotated.data());
  DepthwiseConvolution(InputGradientShape(shape), d_y, rotated.data(), nullptr, d_x, parallel_for);
}

}  // namespace detectron_ext
