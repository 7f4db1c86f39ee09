// The non-local block (Non-local neural networks, arXiv:1711.07971, equations 4 and 6; embedded
// Gaussian) as one function. Of the forward pass's maps, the backward pass needs only the input x
// and the averages z below.
//
// x and y are (images, channels, positions). theta, phi and g are 1x1 convolutions of x; `out` is a
// 1x1 convolution of the attention's result:
//
//   y[i] = x[i] + out(sum_j softmax_j(scale theta(x[i]) . phi(x[j])) g(x[j])).
//
// 1x1 convolutions are linear in each position, and probabilities add up to 1. So with
//
//   scores = scale theta_w^T phi_w      bias = scale phi_w^T theta_b
//   values = out_w g_w                  constant = out_w g_b + out_b
//
// the same result is y[i] = x[i] + values z[i] + constant, where
//
//   z[i] = sum_j softmax_j(x[i] . (scores x[j]) + bias . x[j]) x[j]
//
// averages the input itself. That takes two convolutions instead of four. phi_b adds the same
// number to all scores of a position, so it does not change the softmax. The backward pass computes
// the keys, scores x[j], of one band of positions at a time.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

struct NonLocalShape {
  int64_t images;
  int64_t channels;
  int64_t positions;
  int64_t embedded;  // channels of theta, phi and g
  float scale;

  int64_t image_size() const { return channels * positions; }
};

// theta_w, phi_w, g_w: (embedded, channels); theta_b, g_b: (embedded); out_w: (channels, embedded);
// out_b: (channels).
struct NonLocalWeights {
  const float* theta_w;
  const float* theta_b;
  const float* phi_w;
  const float* g_w;
  const float* g_b;
  const float* out_w;
  const float* out_b;
};

// The gradients of the weights, of their shapes. phi_b is (embedded).
struct NonLocalWeightGradients {
  float* theta_w;
  float* theta_b;
  float* phi_w;
  float* phi_b;
  float* g_w;
  float* g_b;
  float* out_w;
  float* out_b;
};

// Writes y, averages (z above, of the shape of x) and log_sums (images, positions): the logarithms
// of the softmax's denominators.
void NonLocalBlock(const NonLocalShape& shape, const float* x, const NonLocalWeights& weights,
                   float* y, float* averages, float* log_sums, ParallelFor parallel_for);

// Writes d_x and d_weights. averages and log_sums are the results of NonLocalBlock.
void NonLocalBlockGradient(const NonLocalShape& shape, const float* x,
                           const NonLocalWeights& weights, const float* averages,
                           const float* log_sums, const float* d_y, float* d_x,
                           const NonLocalWeightGradients& d_weights, ParallelFor parallel_for);

}  // namespace detectron_ext
