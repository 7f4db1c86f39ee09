// Launching CUDA kernels: what all .cu files of kernels/ share.
//
// The kernels use shared memory and __syncthreads but no warp instructions, no float atomics and no
// CUDA library, so that the bits of a result depend on nothing but the input, and so that
// kernels/cuda_emulation.h can run them on a machine without a GPU.
#pragma once

#ifdef DETECTRON_EXT_EMULATE_CUDA
#include "kernels/cuda_emulation.h"
#else
#include <cuda_runtime.h>
#endif

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace detectron_ext {

constexpr int kCudaThreads = 256;
// Blocks of an element-wise kernel: enough to fill any GPU; threads stride over the rest.
constexpr int64_t kCudaMaxBlocks = 16384;

inline unsigned CudaBlocks(int64_t count) {
  const int64_t blocks = (count + kCudaThreads - 1) / kCudaThreads;
  return static_cast<unsigned>(std::max<int64_t>(1, std::min(blocks, kCudaMaxBlocks)));
}

// Throws std::runtime_error with CUDA's words for an error.
inline void CheckCuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
  }
}

// Runs kernel(args...) on `stream` and throws if it cannot be launched.
template <typename... Parameters, typename... Arguments>
void LaunchCuda(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                cudaStream_t stream, const Arguments&... arguments) {
#ifdef DETECTRON_EXT_EMULATE_CUDA
  EmulateLaunch(grid, block, [&] { kernel(static_cast<Parameters>(arguments)...); });
  (void)name;
  (void)stream;
#else
  kernel<<<grid, block, 0, stream>>>(static_cast<Parameters>(arguments)...);
  CheckCuda(cudaGetLastError(), name);
#endif
}

}  // namespace detectron_ext
