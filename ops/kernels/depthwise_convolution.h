// Convolution of each channel with a filter of its own, 3x3 or 5x5, at stride 1 or 2 in both
// directions, with any padding.
//
// x and d_x are (images, channels, h.in, w.in), y and d_y are (images, channels, h.out, w.out), and
// filter is (channels, kernel, kernel). All are contiguous. Padding counts as zeros: h.pad rows
// above the map and w.pad columns to its left. The padding below and to the right follows from the
// sizes. A pad may be larger than the map or the filter. One thread adds up each sum, in a fixed
// order, so the results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

struct DepthwiseAxis {
  int64_t in;
  int64_t out;
  int64_t pad;  // before the first element
};

struct DepthwiseShape {
  int64_t images;
  int64_t channels;
  DepthwiseAxis h;
  DepthwiseAxis w;
  int64_t kernel;  // 3 or 5
  int64_t stride;  // 1 or 2

  int64_t taps() const { return kernel * kernel; }
  int64_t in_plane() const { return h.in * w.in; }
  int64_t out_plane() const { return h.out * w.out; }
  // Planes of one block of work: about 32K elements of the larger of x and y.
  int64_t block() const {
    const int64_t plane = in_plane() > out_plane() ? in_plane() : out_plane();
    return plane >= 32768 ? 1 : 32768 / (plane > 0 ? plane : 1);
  }
};

// Returns whether these kernels can compute a convolution with such a window.
inline bool IsDepthwiseWindow(int64_t kernel_h, int64_t kernel_w, int64_t stride_h,
                              int64_t stride_w) {
  return kernel_h == kernel_w && (kernel_h == 3 || kernel_h == 5) && stride_h == stride_w &&
      (stride_h == 1 || stride_h == 2);
}

// Writes y[n][c][i][j] = bias[c] + sum_kl filter[c][k][l] x[n][c][stride i + k - h.pad]
// [stride j + l - w.pad]. A null bias counts as 0.
void DepthwiseConvolution(const DepthwiseShape& shape, const float* x, const float* filter,
                          const float* bias, float* y, ParallelFor parallel_for);

// Writes d_filter; d_bias unless it is null; and all of d_x unless it is null. Elements of d_x under
// no window get 0. For d_filter vectors reach past the ends of rows and are multiplied by 0 there. So
// an infinity or a NaN in x or d_y may make the whole filter of its channel NaN.
void DepthwiseGradients(const DepthwiseShape& shape, const float* x, const float* filter,
                        const float* d_y, float* d_filter, float* d_bias, float* d_x,
                        ParallelFor parallel_for);

}  // namespace detectron_ext
