// Cuts columns into panels of whole vectors. The panels are of nearly equal width, so that none is
// much narrower than the others.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/block_product.h"
#include "kernels/packing.h"
#include "kernels/simd.h"

namespace detectron_ext {

constexpr int64_t kLineFloats = 16;  // floats of a cache line

// At most kTileVectors vectors a panel. The last panel may be filled only in part.
struct VectorPanels {
  explicit VectorPanels(int64_t columns)
      : columns(columns),
        vectors(DivideUp(columns, kVectorWidth)),
        count(DivideUp(vectors, kTileVectors)) {}

  // The first column of a panel, its columns in whole vectors, and those of them that exist.
  int64_t first(int64_t panel) const { return panel * vectors / count * kVectorWidth; }
  int64_t width(int64_t panel) const { return first(panel + 1) - first(panel); }
  int64_t filled(int64_t panel) const { return std::min(columns, first(panel + 1)) - first(panel); }

  int64_t columns;
  int64_t vectors;
  int64_t count;  // of panels
};

}  // namespace detectron_ext
