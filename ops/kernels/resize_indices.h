// Which outputs depend on which inputs when one axis is resized from `in` to `out` positions, by
// the rules of PyTorch. The type Int must be able to hold (out + 1) * in.
#pragma once

#include "kernels/elementary.h"

namespace detectron_ext {

// Adaptive pooling: output i covers input positions [PoolBegin, PoolEnd).
template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int PoolBegin(Int i, Int in, Int out) {
  return i * in / out;
}

template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int PoolEnd(Int i, Int in, Int out) {
  return ((i + 1) * in + out - 1) / out;
}

// Nearest resizing: the input position that output i repeats. The result is exact. PyTorch first
// rounds in / out to a float, so its result is lower by one for a few pairs of sizes above 25.
template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int NearestIndex(Int i, Int in, Int out) {
  return i * in / out;
}

// The first output whose nearest input is `p` or later: outputs [CopiesBegin(p),
// CopiesBegin(p + 1)) repeat input p.
template <typename Int>
DETECTRON_EXT_HOST_DEVICE Int CopiesBegin(Int p, Int in, Int out) {
  return (p * out + in - 1) / in;
}

// Whether `next` replaces `best` as the maximum of a scan: larger, or NaN.
DETECTRON_EXT_HOST_DEVICE bool Replaces(float next, float best) {
  return (next > best) | (next != next);
}

}  // namespace detectron_ext
