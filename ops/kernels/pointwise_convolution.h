// Convolution with 1x1 filters, of any stride, as matrix products over the positions of all images.
//
// x and d_x are (images, in_channels, height, width), y and d_y are (images, out_channels,
// out_height, out_width), and filter is (out_channels, in_channels). All are contiguous and none is
// padded. Only the filter and blocks that fit in the caches are copied. One thread adds up each
// sum, in a fixed order, so the results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

struct PointwiseShape {
  int64_t images;
  int64_t in_channels;
  int64_t out_channels;
  int64_t height;
  int64_t width;
  int64_t stride_y;
  int64_t stride_x;

  int64_t out_height() const { return (height - 1) / stride_y + 1; }
  int64_t out_width() const { return (width - 1) / stride_x + 1; }
};

// Writes y[n][o][p] = bias[o] + sum_c filter[o][c] x[n][c][stride * p]. A null bias counts as 0.
void PointwiseConvolution(const PointwiseShape& shape, const float* x, const float* filter,
                          const float* bias, float* y, ParallelFor parallel_for);

// Writes all of d_x. Positions that the stride skips get 0.
void PointwiseInputGradient(const PointwiseShape& shape, const float* filter, const float* d_y,
                            float* d_x, ParallelFor parallel_for);

// Writes d_filter, and d_bias unless it is null.
void PointwiseFilterGradient(const PointwiseShape& shape, const float* x, const float* d_y,
                             float* d_filter, float* d_bias, ParallelFor parallel_for);

}  // namespace detectron_ext
