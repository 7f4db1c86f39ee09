// The attention of kernels/attention.h on CUDA. Pointers are to device memory.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda_launch.h"

namespace detectron_ext {

// The most images of one launch.
constexpr int64_t kMaxCudaImages = 65535;
// The number of positions must be below this.
constexpr int64_t kMaxCudaPositions = 1 << 30;
// The most channels: a grid has at most 65535 blocks, and a block of threads owns at least 32
// channels.
constexpr int64_t kMaxCudaChannels = 65535 * 32;

// How products of blocks are computed. kTensorCores splits every float32 into two parts that tensor
// cores take and adds three products of parts; the error is nearly that of float32. It needs a GPU
// of compute capability 8.0 or newer. kChosen uses tensor cores where they are faster.
enum class AttentionProducts { kChosen, kFloat32, kTensorCores };

// Floats that `scratch` must hold on the current device. They grow with channels * positions.
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
