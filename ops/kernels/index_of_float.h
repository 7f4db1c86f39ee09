// Indices that arrive as floats, as in Detectron's regions and places.
#pragma once

#include "kernels/elementary.h"

namespace detectron_ext {

// Returns the whole part of `value` if it is an index below `size`, else -1. Fractions are dropped,
// as in Detectron: values above -1 and below 1 are index 0.
DETECTRON_EXT_HOST_DEVICE int64_t IndexOfFloat(float value, int64_t size) {
  // The comparisons come before the conversion, which is undefined for NaN and huge values.
  if (!(value > -1.0f && value < static_cast<float>(size))) {
    return -1;
  }
  const int64_t index = static_cast<int64_t>(value);
  return index < size ? index : -1;  // without this check -0.5 would be an index of 0 elements
}

}  // namespace detectron_ext
