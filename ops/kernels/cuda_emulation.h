// Runs CUDA kernels on the CPU, for tests on machines without a GPU. Compile a .cu file of
// kernels/ as C++ with DETECTRON_EXT_EMULATE_CUDA defined.
//
// Blocks run one after another. The threads of a block are coroutines that take turns at
// __syncthreads and at products of matrices. Only what the kernels use is emulated: there are no
// streams, and the matrix products are the only functions of a whole warp. Every thread of a block
// must reach the same of these points in the same order, unless it has returned.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
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

struct uint2 {
  uint32_t x, y;
};

struct uint4 {
  uint32_t x, y, z, w;
};

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }

// A GPU with few multiprocessors, so that small tests divide their work as large problems do on a
// GPU.
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 8,
  cudaDevAttrComputeCapabilityMajor = 9,
  cudaDevAttrComputeCapabilityMinor = 0
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct cudaFuncAttributes {
  int ptxVersion;
};
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute;
  return cudaSuccess;
}
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  attributes->ptxVersion = 90;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}
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
  std::vector<dim3> indices;
  std::vector<float> shared;

  // The coroutines. A context starts one; jumps, which make no system call, switch between them.
  struct Thread {
    ucontext_t start;
    jmp_buf state;
    bool started, done;
  };
  std::vector<Thread> threads;
  size_t running = 0;
  jmp_buf scheduler;

  // The operands that the threads of a warp give to a product of matrices. There are two sets: a
  // thread may reach the next product before another thread has read the operands of this one.
  struct Operands {
    uint32_t a[32][4], b[32][2];
  };
  std::vector<Operands> operands[2];
  std::vector<int> products;  // of each thread

  void Yield() {
    if (_setjmp(threads[running].state) == 0) {
      _longjmp(scheduler, 1);
    }
  }

  // Runs a thread until it yields or is done.
  void Resume() {
    if (_setjmp(scheduler) != 0) {
      return;
    }
    Thread& thread = threads[running];
    if (thread.started) {
      _longjmp(thread.state, 1);
    }
    thread.started = true;
    setcontext(&thread.start);
  }
};

// The body of a coroutine.
inline void RunEmulatedThread() {
  Emulation& e = Emulation::Current();
  e.body();
  e.threads[e.running].done = true;
  _longjmp(e.scheduler, 1);
}

// Resumes every thread of the current block in turn until all are done.
inline void RunEmulatedBlock(std::vector<std::unique_ptr<char[]>>& stacks, size_t stack_size) {
  Emulation& e = Emulation::Current();
  for (size_t t = 0; t < e.threads.size(); ++t) {
    Emulation::Thread& thread = e.threads[t];
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = stacks[t].get();
    thread.start.uc_stack.ss_size = stack_size;
    makecontext(&thread.start, RunEmulatedThread, 0);
    thread.started = thread.done = false;
  }
  for (bool all_done = false; !all_done;) {
    all_done = true;
    for (e.running = 0; e.running < e.threads.size(); ++e.running) {
      if (!e.threads[e.running].done) {
        e.thread_index = e.indices[e.running];
        e.Resume();
        all_done = all_done && e.threads[e.running].done;
      }
    }
  }
}

// Returns the number that tensor cores read from a float.
inline double Tf32(uint32_t bits) {
  bits &= 0xffffe000u;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rounds x towards zero to a float.
inline float CutOff(double x) {
  const float rounded = static_cast<float>(x);
  return std::fabs(static_cast<double>(rounded)) > std::fabs(x) ? std::nextafter(rounded, 0.0f)
                                                                : rounded;
}

// mma.m16n8k8 on tf32 (PTX ISA): c += a b. The elements are spread over a warp's threads. Sums are
// truncated to float32.
inline void EmulateMma(const uint32_t (&a)[4], const uint32_t (&b)[2], float* c) {
  Emulation& e = Emulation::Current();
  const size_t warp = e.running / 32;
  const size_t lane = e.running % 32;
  Emulation::Operands& operands = e.operands[e.products[e.running]++ % 2][warp];
  std::memcpy(operands.a[lane], a, sizeof(a));
  std::memcpy(operands.b[lane], b, sizeof(b));
  e.Yield();
  for (size_t i = 0; i < 4; ++i) {
    const size_t row = lane / 4 + i / 2 * 8;
    const size_t column = lane % 4 * 2 + i % 2;
    double sum = c[i];
    for (size_t k = 0; k < 8; ++k) {
      sum += Tf32(operands.a[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]) *
          Tf32(operands.b[column * 4 + k % 4][k / 4]);
    }
    c[i] = CutOff(sum);
  }
}

// Calls body() once for every thread of a launch, with its indices set.
inline void EmulateLaunch(dim3 grid, dim3 block, size_t shared_bytes,
                          const std::function<void()>& body) {
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
  e.shared.assign(shared_bytes / sizeof(float), std::nanf(""));  // shows unwritten memory
  e.products.assign(e.indices.size(), 0);
  for (auto& operands : e.operands) {
    operands.resize((e.indices.size() + 31) / 32);
  }
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
#define DETECTRON_EXT_DYNAMIC_SHARED(name) \
  float* const name = detectron_ext::Emulation::Current().shared.data()

// As in CUDA, all threads of a block must reach it or have returned.
inline void __syncthreads() { detectron_ext::Emulation::Current().Yield(); }

inline int atomicMin(int* address, int value) {
  const int old = *address;
  *address = value < old ? value : old;
  return old;
}

inline int atomicMax(int* address, int value) {
  const int old = *address;
  *address = value > old ? value : old;
  return old;
}

inline int atomicOr(int* address, int value) {
  const int old = *address;
  *address = old | value;
  return old;
}

inline int min(int a, int b) { return a < b ? a : b; }
