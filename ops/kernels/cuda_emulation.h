// Runs CUDA kernels on the CPU, for tests on machines without a GPU. Compile a .cu file of
// kernels/ as C++ with DETECTRON_EXT_EMULATE_CUDA defined.
//
// Blocks run one after another; the threads of a block are coroutines that take turns at
// __syncthreads. What is emulated is what the kernels use: no streams, no warps.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __restrict__ __restrict

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_value = 1, unsigned y_value = 1, unsigned z_value = 1)  // NOLINT: as in CUDA
      : x(x_value), y(y_value), z(z_value) {}
};

struct float4 {
  float x, y, z, w;
};

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

namespace detectron_ext {

// One launch in progress.
struct Emulation {
  static Emulation& Current() {
    static Emulation emulation;
    return emulation;
  }

  dim3 grid, block, block_index, thread_index;
  std::function<void()> body;
  std::vector<ucontext_t> threads;
  std::vector<dim3> indices;
  std::vector<bool> done;
  size_t running = 0;
  ucontext_t scheduler;

  void Yield() { swapcontext(&threads[running], &scheduler); }
};

inline void RunEmulatedThread() {
  Emulation& e = Emulation::Current();
  e.body();
  e.done[e.running] = true;
}

// Resumes every thread of the current block in turn until all are done.
inline void RunEmulatedBlock(std::vector<std::unique_ptr<char[]>>& stacks, size_t stack_size) {
  Emulation& e = Emulation::Current();
  for (size_t t = 0; t < e.threads.size(); ++t) {
    getcontext(&e.threads[t]);
    e.threads[t].uc_stack.ss_sp = stacks[t].get();
    e.threads[t].uc_stack.ss_size = stack_size;
    e.threads[t].uc_link = &e.scheduler;
    makecontext(&e.threads[t], RunEmulatedThread, 0);
    e.done[t] = false;
  }
  for (size_t left = e.threads.size(); left > 0;) {
    left = 0;
    for (e.running = 0; e.running < e.threads.size(); ++e.running) {
      if (!e.done[e.running]) {
        e.thread_index = e.indices[e.running];
        swapcontext(&e.scheduler, &e.threads[e.running]);
        left += !e.done[e.running];
      }
    }
  }
}

inline void EmulateLaunch(dim3 grid, dim3 block, const std::function<void()>& body) {
  constexpr size_t kStackSize = 64 * 1024;
  Emulation& e = Emulation::Current();
  e.grid = grid;
  e.block = block;
  e.body = body;
  e.indices.clear();
  for (unsigned z = 0; z < block.z; ++z) {
    for (unsigned y = 0; y < block.y; ++y) {
      for (unsigned x = 0; x < block.x; ++x) {
        e.indices.emplace_back(x, y, z);
      }
    }
  }
  e.threads.resize(e.indices.size());
  e.done.resize(e.indices.size());
  std::vector<std::unique_ptr<char[]>> stacks;
  for (size_t t = 0; t < e.indices.size(); ++t) {
    stacks.emplace_back(new char[kStackSize]);
  }
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        e.block_index = dim3(x, y, z);
        RunEmulatedBlock(stacks, kStackSize);
      }
    }
  }
}

}  // namespace detectron_ext

#define blockIdx (detectron_ext::Emulation::Current().block_index)
#define threadIdx (detectron_ext::Emulation::Current().thread_index)
#define blockDim (detectron_ext::Emulation::Current().block)
#define gridDim (detectron_ext::Emulation::Current().grid)

// As in CUDA, all threads of a block must reach it, or have returned.
inline void __syncthreads() { detectron_ext::Emulation::Current().Yield(); }

inline int atomicMin(int* address, int value) {
  const int old = *address;
  *address = value < old ? value : old;
  return old;
}
