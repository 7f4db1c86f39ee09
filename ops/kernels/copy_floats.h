// Copies and prefetches runs of floats.
#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace detectron_ext {

// to[i] = from[i] for i < count; nothing if count is below 1. For rows as short as most are, this
// is faster than memcpy.
inline void CopyFloats(const float* from, int64_t count, float* to) {
  if (count < kVectorWidth) {
    for (int64_t i = 0; i < count; ++i) {
      to[i] = from[i];
    }
    return;
  }
  for (int64_t i = 0; i + kVectorWidth < count; i += kVectorWidth) {
    StoreVector(to + i, LoadVector(from + i));
  }
  const int64_t last = count - kVectorWidth;
  StoreVector(to + last, LoadVector(from + last));
}

// Asks for floats [from, from + count), so that they are in the second-level cache later.
inline void PrefetchFloats(const float* from, int64_t count) {
  constexpr int64_t kLineFloats = 16;
  for (int64_t i = 0; i < count; i += kLineFloats) {
    __builtin_prefetch(from + i, 0, 2);
  }
}

}  // namespace detectron_ext
