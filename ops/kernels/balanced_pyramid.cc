#include "kernels/balanced_pyramid.h"

#include <algorithm>
#include <functional>

namespace detectron_ext {
namespace {

// Planes of one block of work, which share one set of scratch buffers.
constexpr int64_t kPlaneBlock = 8;

// The plans of resizing between level `refine` and each other level. Before and After are the plans
// of the levels before and after `refine`.
template <typename Before, typename After>
struct PyramidPlans {
  std::vector<Before> before;  // of levels 0 ... refine - 1
  std::vector<After> after;    // of levels refine + 1 ... n - 1
  int64_t scratch_size = 0;

  // The plan of a level after `refine`.
  const After& after_at(const PyramidShape& shape, int level) const {
    return after[level - shape.refine - 1];
  }
  // Raises scratch_size to `size` if it is smaller.
  void Reserve(int64_t size) { scratch_size = std::max(scratch_size, size); }
};

// Gathering pools finer levels to the size of level `refine` and repeats elements of coarser ones.
using GatherPlans = PyramidPlans<MaxPoolPlan, NearestPlan>;
// Scattering repeats elements of level `refine` for finer levels and pools it for coarser ones.
using ScatterPlans = PyramidPlans<NearestPlan, MaxPoolPlan>;

GatherPlans PlanGather(const PyramidShape& shape) {
  GatherPlans plans;
  const PlaneSize refined = shape.sizes[shape.refine];
  for (int i = 0; i < shape.refine; ++i) {
    plans.before.emplace_back(shape.sizes[i], refined);
    plans.Reserve(plans.before.back().scratch_size());
  }
  for (int i = shape.refine + 1; i < shape.levels(); ++i) {
    plans.after.emplace_back(shape.sizes[i], refined);
    plans.Reserve(plans.after.back().scratch_size());
  }
  return plans;
}

ScatterPlans PlanScatter(const PyramidShape& shape) {
  ScatterPlans plans;
  const PlaneSize refined = shape.sizes[shape.refine];
  for (int i = 0; i < shape.refine; ++i) {
    plans.before.emplace_back(refined, shape.sizes[i]);
    plans.Reserve(plans.before.back().scratch_size());
  }
  for (int i = shape.refine + 1; i < shape.levels(); ++i) {
    plans.after.emplace_back(refined, shape.sizes[i]);
    plans.Reserve(plans.after.back().scratch_size());
  }
  return plans;
}

// Calls plane_body(plane, scratch, index_scratch) for every plane.
template <typename PlaneBody>
void ForEachPlane(const PyramidShape& shape, int64_t scratch_size, ParallelFor parallel_for,
                  const PlaneBody& plane_body) {
  ForEachBlock(parallel_for, shape.planes, kPlaneBlock, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(scratch_size);
    std::vector<int32_t> index_scratch(scratch_size);
    for (int64_t plane = begin; plane < end; ++plane) {
      plane_body(plane, scratch.data(), index_scratch.data());
    }
  });
}

// to += from.
void AddPlane(const float* from, int64_t size, float* to) {
  for (int64_t i = 0; i < size; ++i) {
    to[i] += from[i];
  }
}

}  // namespace

void GatherPyramid(const PyramidShape& shape, const std::vector<const float*>& levels,
                   float* gathered, ParallelFor parallel_for) {
  const GatherPlans plans = PlanGather(shape);
  const int64_t area = shape.sizes[shape.refine].area();
  const float weight = 1.0f / static_cast<float>(shape.levels());
  const auto process_plane = [&](int64_t plane, float* scratch, int32_t*) {
    float* out = gathered + plane * area;
    std::fill(out, out + area, 0.0f);
    for (int i = 0; i < shape.levels(); ++i) {
      const float* in = levels[i] + plane * shape.sizes[i].area();
      if (i < shape.refine) {
        plans.before[i].Add(in, out, out, scratch);
      } else if (i == shape.refine) {
        AddPlane(in, area, out);
      } else {
        plans.after_at(shape, i).Add(in, out, out, scratch);
      }
    }
    for (int64_t p = 0; p < area; ++p) {
      out[p] *= weight;
    }
  };
  ForEachPlane(shape, plans.scratch_size, parallel_for, process_plane);
}

void GatherPyramidGradient(const PyramidShape& shape, const std::vector<const float*>& levels,
                           const float* d_gathered, const std::vector<float*>& d_levels,
                           ParallelFor parallel_for) {
  const GatherPlans plans = PlanGather(shape);
  const int64_t area = shape.sizes[shape.refine].area();
  const float weight = 1.0f / static_cast<float>(shape.levels());
  const auto process_plane = [&](int64_t plane, float* scratch, int32_t* index_scratch) {
    const float* d_out = d_gathered + plane * area;
    for (int i = 0; i < shape.levels(); ++i) {
      const int64_t level_area = shape.sizes[i].area();
      float* d_in = d_levels[i] + plane * level_area;
      if (i == shape.refine) {
        for (int64_t p = 0; p < area; ++p) {
          d_in[p] = weight * d_out[p];
        }
        continue;
      }
      std::fill(d_in, d_in + level_area, 0.0f);
      if (i < shape.refine) {
        plans.before[i].AddGradient(levels[i] + plane * level_area, d_out, weight, d_in, scratch,
                                    index_scratch);
      } else {
        plans.after_at(shape, i).AddGradient(d_out, weight, d_in, scratch);
      }
    }
  };
  ForEachPlane(shape, plans.scratch_size, parallel_for, process_plane);
}

void ScatterPyramid(const PyramidShape& shape, const float* balanced,
                    const std::vector<const float*>& levels, const std::vector<float*>& scattered,
                    ParallelFor parallel_for) {
  const ScatterPlans plans = PlanScatter(shape);
  const int64_t area = shape.sizes[shape.refine].area();
  const auto process_plane = [&](int64_t plane, float* scratch, int32_t*) {
    const float* refined = balanced + plane * area;
    for (int i = 0; i < shape.levels(); ++i) {
      const int64_t level_area = shape.sizes[i].area();
      const float* level = levels[i] + plane * level_area;
      float* out = scattered[i] + plane * level_area;
      if (i < shape.refine) {
        plans.before[i].Add(refined, level, out, scratch);
      } else if (i == shape.refine) {
        std::transform(level, level + area, refined, out, std::plus<float>());
      } else {
        plans.after_at(shape, i).Add(refined, level, out, scratch);
      }
    }
  };
  ForEachPlane(shape, plans.scratch_size, parallel_for, process_plane);
}

void ScatterPyramidGradient(const PyramidShape& shape, const float* balanced,
                            const std::vector<const float*>& d_scattered, float* d_balanced,
                            ParallelFor parallel_for) {
  const ScatterPlans plans = PlanScatter(shape);
  const int64_t area = shape.sizes[shape.refine].area();
  const auto process_plane = [&](int64_t plane, float* scratch, int32_t* index_scratch) {
    float* d_refined = d_balanced + plane * area;
    std::fill(d_refined, d_refined + area, 0.0f);
    for (int i = 0; i < shape.levels(); ++i) {
      if (d_scattered[i] == nullptr) {
        continue;
      }
      const float* d_out = d_scattered[i] + plane * shape.sizes[i].area();
      if (i < shape.refine) {
        plans.before[i].AddGradient(d_out, 1.0f, d_refined, scratch);
      } else if (i == shape.refine) {
        AddPlane(d_out, area, d_refined);
      } else {
        plans.after_at(shape, i).AddGradient(balanced + plane * area, d_out, 1.0f, d_refined,
                                             scratch, index_scratch);
      }
    }
  };
  ForEachPlane(shape, plans.scratch_size, parallel_for, process_plane);
}

}  // namespace detectron_ext
