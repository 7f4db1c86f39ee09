// The attention of kernels/attention.h on CUDA. Pointers are to device memory.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda_launch.h"

namespace detectron_ext {

// Images of one launch.
constexpr int64_t kMaxCudaImages = 65535;
// Positions must stay below this.
constexpr int64_t kMaxCudaPositions = 1 << 30;
// Channels, of which a block of threads owns at least 32, in a grid of 65535 blocks.
constexpr int64_t kMaxCudaChannels = 65535 * 32;

// How products of blocks are computed: kTensorCores splits every float32 into two parts that fit
// tensor cores' inputs and adds three products of parts, with nearly the error of float32. It takes
// a GPU of compute capability 8.0 or newer; kChosen takes it where that is faster.
enum class AttentionProducts { kChosen, kFloat32, kTensorCores };

// Floats that `scratch` must hold on the current device: they grow with channels * positions.
int64_t AttentionScratch(const AttentionShape& shape);

// As Attention, within the limits above.
void AttentionCuda(const AttentionShape& shape, AttentionProducts products, const float* theta,
                   const float* phi, const float* g, float* out, float* log_sums, float* scratch,
                   cudaStream_t stream);

// As AttentionGradient, within the limits above.
void AttentionGradientCuda(const AttentionShape& shape, AttentionProducts products,
                           const float* theta, const float* phi, const float* g, const float* out,
                           const float* log_sums, const float* d_out, float* d_theta, float* d_phi,
                           float* d_g, float* scratch, cudaStream_t stream);

}  // namespace detectron_ext
