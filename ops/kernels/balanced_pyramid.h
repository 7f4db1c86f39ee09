// The balanced feature pyramid (Libra R-CNN, arXiv:1904.02701, section 3.2): gathering all levels
// into one and scattering that one back.
//
// Level i of n has `planes` planes (images times channels) of size sizes[i]. The finest level is
// first. In gathering, levels before `refine` are max-pooled to its size, and levels after it are
// nearest-resized. In scattering, level `refine` is nearest-resized to the levels before it and
// max-pooled to the levels after it. Only the order of the levels decides this, not their sizes.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/plane_resize.h"

namespace detectron_ext {

constexpr int kMinPyramidLevels = 2;
constexpr int kMaxPyramidLevels = 8;

struct PyramidShape {
  int64_t planes;
  int refine;
  std::vector<PlaneSize> sizes;

  int levels() const { return static_cast<int>(sizes.size()); }
};

// gathered = the mean of all levels at the size of level `refine`.
void GatherPyramid(const PyramidShape& shape, const std::vector<const float*>& levels,
                   float* gathered, ParallelFor parallel_for);

// d_levels[i] = the gradient for level i. levels[i] is read for i < refine only.
void GatherPyramidGradient(const PyramidShape& shape, const std::vector<const float*>& levels,
                           const float* d_gathered, const std::vector<float*>& d_levels,
                           ParallelFor parallel_for);

// scattered[i] = levels[i] + `balanced` at the size of level i.
void ScatterPyramid(const PyramidShape& shape, const float* balanced,
                    const std::vector<const float*>& levels, const std::vector<float*>& scattered,
                    ParallelFor parallel_for);

// d_balanced = the gradient for `balanced`; a null d_scattered[i] counts as zeros. The gradient
// for levels[i] is d_scattered[i] itself.
void ScatterPyramidGradient(const PyramidShape& shape, const float* balanced,
                            const std::vector<const float*>& d_scattered, float* d_balanced,
                            ParallelFor parallel_for);

}  // namespace detectron_ext
