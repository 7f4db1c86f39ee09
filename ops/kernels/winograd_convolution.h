// Convolution with 3x3 filters of stride 1 by Winograd's minimal filtering.
//
// F(2x2, 3x3) computes tiles of 2x2 outputs with 2.25 times fewer multiplications than the direct
// sum, and F(4x4, 3x3) tiles of 4x4 outputs with 4 times fewer. Lavin and Gray, Fast Algorithms for
// Convolutional Neural Networks, 2016. The relative error (Euclidean norm) is below 2e-6 for 2x2 and
// below 1e-5 for 4x4.
//
// x and d_x are (images, in_channels, height, width), y and d_y are (images, out_channels,
// out_height, out_width), and filter is (out_channels, in_channels, 3, 3). All are contiguous.
//
// Tiles are taken band by band, so the memory for transformed tiles does not grow with the images.
// One thread adds up each sum, in a fixed order, so the results do not depend on the number of
// threads.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

struct WinogradShape {
  int64_t images;
  int64_t in_channels;
  int64_t out_channels;
  int64_t height;
  int64_t width;
  int64_t pad_top;  // pads are 0, 1 or 2
  int64_t pad_left;
  int64_t pad_bottom;
  int64_t pad_right;

  int64_t out_height() const { return height + pad_top + pad_bottom - 2; }
  int64_t out_width() const { return width + pad_left + pad_right - 2; }
};

// How to compute a convolution: tiles of 2x2 or 4x4 outputs, or not by this file.
enum class WinogradTile { kNone = 0, k2 = 2, k4 = 4 };

// The passes of a convolution: the output, the gradient of x, the gradient of the filter.
enum class ConvolutionPass { kForward, kInputGradient, kFilterGradient };

// Returns the tile with the least estimated time, or kNone if the direct sum takes less. The answer
// depends on the shape alone. Every size of the shape must be above 0.
WinogradTile FastestTile(const WinogradShape& shape, ConvolutionPass pass);

// As FastestTile, but never kNone.
WinogradTile FastestWinogradTile(const WinogradShape& shape, ConvolutionPass pass);

// Writes y[n][o][i][j] = bias[o] + sum over c, r, s of
// filter[o][c][r][s] x[n][c][i + r - pad_top][j + s - pad_left]. A null bias counts as 0.
void WinogradConvolution(const WinogradShape& shape, WinogradTile tile, const float* x,
                         const float* filter, const float* bias, float* y,
                         ParallelFor parallel_for);

void WinogradInputGradient(const WinogradShape& shape, WinogradTile tile, const float* filter,
                           const float* d_y, float* d_x, ParallelFor parallel_for);

// Writes d_filter, and d_bias unless it is null.
void WinogradFilterGradient(const WinogradShape& shape, WinogradTile tile, const float* x,
                            const float* d_y, float* d_filter, float* d_bias,
                            ParallelFor parallel_for);

}  // namespace detectron_ext
