// Launching CUDA kernels: what all .cu files of kernels/ share.
//
// The kernels use no float atomics and no CUDA library. So the bits of a result depend only on the
// input and the GPU. The kernels use only what kernels/cuda_emulation.h emulates, so tests can run
// them on a machine without a GPU.
#pragma once

#ifdef DETECTRON_EXT_EMULATE_CUDA
#include "kernels/cuda_emulation.h"
#else
#include <cuda_runtime.h>
// Declares the shared memory that LaunchCudaShared asks for.
#define DETECTRON_EXT_DYNAMIC_SHARED(name) extern __shared__ __align__(16) float name[]
#endif

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace detectron_ext {

constexpr int kCudaThreads = 256;
// The most blocks of an element-wise kernel. They fill any GPU. If there are more elements than
// threads, a thread takes several.
constexpr int64_t kCudaMaxBlocks = 16384;

// Returns the number of blocks for `count` elements.
inline unsigned CudaBlocks(int64_t count) {
  const int64_t blocks = (count + kCudaThreads - 1) / kCudaThreads;
  return static_cast<unsigned>(std::max<int64_t>(1, std::min(blocks, kCudaMaxBlocks)));
}

// Throws std::runtime_error with CUDA's message if `error` is an error.
inline void CheckCuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
  }
}

// Runs kernel(args...) on `stream` with `shared_bytes` of shared memory in addition to what it
// declares. Throws std::runtime_error if it cannot be launched.
template <typename... Parameters, typename... Arguments>
void LaunchCudaShared(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                      size_t shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
  // A kernel may use more shared memory than this only after an explicit request.
  constexpr size_t kFreelyGiven = 48 * 1024;
  if (shared_bytes > kFreelyGiven) {
    CheckCuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared_bytes)),
              name);
  }
#ifdef DETECTRON_EXT_EMULATE_CUDA
  (void)stream;
  EmulateLaunch(grid, block, shared_bytes, [&] { kernel(static_cast<Parameters>(arguments)...); });
#else
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  CheckCuda(cudaGetLastError(), name);
#endif
}

// The same with the shared memory that the kernel declares.
template <typename... Parameters, typename... Arguments>
void LaunchCuda(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                cudaStream_t stream, const Arguments&... arguments) {
  LaunchCudaShared(name, kernel, grid, block, 0, stream, arguments...);
}

}  // namespace detectron_ext
