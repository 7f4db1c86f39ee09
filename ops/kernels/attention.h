// Embedded-Gaussian attention (Non-local neural networks, arXiv:1711.07971, equation 4) without
// the positions x positions matrix.
//
// theta, phi, g and out are (images, channels, positions), contiguous. For each image
//
//   s[i][j] = scale * sum_c theta[c][i] phi[c][j] + key_biases[j]
//   out[c][i] = sum_j softmax_j(s[i])[j] g[c][j]
//
// The forward pass sends blocks of s through a streaming softmax. The backward pass computes them
// again. Working memory grows with channels * positions.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

struct AttentionShape {
  int64_t images;
  int64_t channels;
  int64_t positions;
  float scale;

  int64_t image_size() const { return channels * positions; }
};

// Writes `out` and log_sums (images, positions): log_sums[i] = ln(sum_j exp(s[i][j])). A null
// `out` means that only log_sums is computed. key_biases is (images, positions), or null for zeros.
void Attention(const AttentionShape& shape, const float* theta, const float* phi, const float* g,
               const float* key_biases, float* out, float* log_sums, ParallelFor parallel_for);

// Writes d_theta, d_phi and d_g, given d_out. out and log_sums are the results of Attention without
// key_biases.
void AttentionGradient(const AttentionShape& shape, const float* theta, const float* phi,
                       const float* g, const float* out, const float* log_sums, const float* d_out,
                       float* d_theta, float* d_phi, float* d_g, ParallelFor parallel_for);

}  // namespace detectron_ext
