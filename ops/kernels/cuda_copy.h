// Copies from global to shared memory that run in parallel with arithmetic, and pipelines of them.
#pragma once

#include "kernels/cuda_launch.h"

namespace detectron_ext {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define DETECTRON_EXT_ASYNC_COPIES
#endif

// Copies 4 or 16 bytes, or writes zeros. Both addresses must be multiples of that size. The
// destination is valid after all threads called CommitCopies, WaitForCopies and __syncthreads.
template <int kBytes>
__device__ __forceinline__ void CopyOrZero(float* to, const float* from, bool copy) {
  static_assert(kBytes == 4 || kBytes == 16, "sizes that the kernels use");
#ifdef DETECTRON_EXT_ASYNC_COPIES
  const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = copy ? kBytes : 0;
  if (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(from),
                 "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(from), "r"(bytes)
                 : "memory");
  }
#else
  if (kBytes == 16) {
    *reinterpret_cast<float4*>(to) =
        copy ? *reinterpret_cast<const float4*>(from) : float4{0, 0, 0, 0};
  } else {
    *to = copy ? *from : 0.0f;
  }
#endif
}

// Ends a group of copies, which consists of all copies since the previous group.
__device__ __forceinline__ void CommitCopies() {
#ifdef DETECTRON_EXT_ASYNC_COPIES
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most kPending of the thread's latest groups are unfinished.
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
#ifdef DETECTRON_EXT_ASYNC_COPIES
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// Chunks pass through kStages buffers: while one is used, the next ones are copied.
// load(chunk, stage) copies a chunk to a buffer; use(chunk, stage) reads it.
template <int kStages>
struct Pipeline {
  // Starts to copy the first chunks. Call it when no thread reads the buffers any more.
  template <typename Load>
  __device__ __forceinline__ static void Start(int chunks, const Load& load) {
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
      if (stage < chunks) {
        load(stage, stage);
      }
      CommitCopies();
    }
  }

  // Copies the other chunks and uses all of them in order. Call it after Start, with the same
  // arguments.
  template <typename Load, typename Use>
  __device__ __forceinline__ static void Run(int chunks, const Load& load, const Use& use) {
    int stage = 0;
    int next_stage = kStages - 1;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      WaitForCopies<kStages - 2>();
      __syncthreads();
      if (chunk + kStages - 1 < chunks) {
        load(chunk + kStages - 1, next_stage);
      }
      CommitCopies();
      use(chunk, stage);
      stage = stage + 1 == kStages ? 0 : stage + 1;
      next_stage = next_stage + 1 == kStages ? 0 : next_stage + 1;
    }
  }
};

}  // namespace detectron_ext
