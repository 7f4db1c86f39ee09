// The attention of kernels/attention.h on CUDA. Pointers are to device memory.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda_launch.h"

namespace detectron_ext {

// Images of one launch.
constexpr int64_t kMaxCudaImages = 65535;

// As Attention; images at most kMaxCudaImages.
void AttentionCuda(const AttentionShape& shape, const float* theta, const float* phi,
                   const float* g, float* out, float* log_sums, cudaStream_t stream);

// As AttentionGradient. row_dots must hold images * positions floats.
void AttentionGradientCuda(const AttentionShape& shape, const float* theta, const float* phi,
                           const float* g, const float* out, const float* log_sums,
                           const float* d_out, float* d_theta, float* d_phi, float* d_g,
                           float* row_dots, cudaStream_t stream);

}  // namespace detectron_ext
