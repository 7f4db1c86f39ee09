// Loads of several numbers at once, and the approximate functions of GPUs.
#pragma once

#include "kernels/cuda_launch.h"

namespace detectron_ext {

// kRun numbers in one access, aligned to their size.
template <int kRun, typename Number>
struct alignas(sizeof(Number) * kRun) Run {
  Number values[kRun];

  __device__ __forceinline__ static Run Load(const Number* from) {
    return *reinterpret_cast<const Run*>(from);
  }
  __device__ __forceinline__ void Store(Number* to) const { *reinterpret_cast<Run*>(to) = *this; }
};

// Whether runs of `bytes` may start at every pointer.
inline bool AlignedTo(size_t) { return true; }
template <typename... Pointers>
bool AlignedTo(size_t bytes, const void* pointer, const Pointers*... others) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0 && AlignedTo(bytes, others...);
}

// 2^x with a relative error below 2^-22; 0 where that is below the smallest normal float.
__device__ __forceinline__ float FastExp2(float x) {
#ifdef DETECTRON_EXT_EMULATE_CUDA
  return std::exp2(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// 1 / x of a normal x with a relative error of at most 2^-23.
__device__ __forceinline__ float FastReciprocal(float x) {
#ifdef DETECTRON_EXT_EMULATE_CUDA
  return 1.0f / x;
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace detectron_ext
