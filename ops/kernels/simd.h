// The vector of floats that the target machine multiplies fastest. It uses compiler extensions
// (GCC, Clang), so that one source serves every instruction set.
#pragma once

#include <cstdint>

namespace detectron_ext {

#if defined(__AVX512F__)
constexpr int kVectorWidth = 16;
#elif defined(__AVX__)
constexpr int kVectorWidth = 8;
#else
constexpr int kVectorWidth = 4;
#endif

// A FloatVector can be loaded from and stored to the address of any float.
typedef float FloatVector
    __attribute__((vector_size(kVectorWidth * sizeof(float)), aligned(sizeof(float)), may_alias));

inline FloatVector LoadVector(const float* from) {
  return *reinterpret_cast<const FloatVector*>(from);
}

// Every element is `value`. Subtracting zero changes no float, so this is one instruction; adding zero
// would turn -0 into 0 and take another.
inline FloatVector Broadcast(float value) { return value - FloatVector{}; }

inline void StoreVector(float* to, FloatVector value) {
  *reinterpret_cast<FloatVector*>(to) = value;
}

}  // namespace detectron_ext
