// How the losses add up their terms. Each block of threads adds up its own terms. Then one block
// adds up the sums of all blocks. The order depends only on the sizes.
#pragma once

#include "kernels/losses_cuda.h"

namespace detectron_ext {

// Returns the sum of the values of a block's threads, added in the order of a fixed tree. All
// threads of the block must call it.
__device__ inline double SumOfBlock(double value) {
  __shared__ double values[kCudaThreads];
  values[threadIdx.x] = value;
  for (int half = kCudaThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) {
      values[threadIdx.x] += values[threadIdx.x + half];
    }
  }
  __syncthreads();
  return values[0];
}

// Returns the number of blocks of threads for `items` of work: at most one for each partial sum.
inline int BlocksOfSum(int64_t items) {
  const int64_t wanted = (items + kCudaThreads - 1) / kCudaThreads;
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(wanted, kLossPartialSums)));
}

// Returns max(*normalizer, 1), or 1 if normalizer is null. NaN gives NaN.
__device__ inline float Divisor(const float* normalizer) {
  return normalizer == nullptr || *normalizer < 1.0f ? 1.0f : *normalizer;
}

// *loss = scale / Divisor(normalizer) * the sum of `count` partial sums.
void FinishSum(const char* name, const double* partial_sums, int count, float scale,
               const float* normalizer, float* loss, cudaStream_t stream);

}  // namespace detectron_ext
