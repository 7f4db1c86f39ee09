// Loads of several numbers at once, and the approximate functions of GPUs.
#pragma once

#include <cstring>

#include "kernels/cuda_launch.h"

namespace detectron_ext {

// A word of kBytes bytes, which one instruction loads or stores.
template <int kBytes>
struct WordOf;
template <>
struct WordOf<4> {
  using Type = uint32_t;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};
template <>
struct WordOf<16> {
  using Type = uint4;
};

// kRun numbers in one access, aligned to their size.
template <int kRun, typename Number>
struct Run {
  using Word = typename WordOf<kRun * sizeof(Number)>::Type;

  Number values[kRun];

  __device__ __forceinline__ static Run Load(const Number* from) {
    const Word word = *reinterpret_cast<const Word*>(from);
    Run run;
    memcpy(run.values, &word, sizeof(word));
    return run;
  }
  __device__ __forceinline__ void Store(Number* to) const {
    Word word;
    memcpy(&word, values, sizeof(word));
#ifdef DETECTRON_EXT_EMULATE_CUDA
    *reinterpret_cast<Word*>(to) = word;
#else
    // The compiler may split an assignment into several stores if the numbers depend on conditions.
    __stcg(reinterpret_cast<Word*>(to), word);
#endif
  }
};

// Returns whether every pointer is a multiple of `bytes`.
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
