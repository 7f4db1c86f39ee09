#include "kernels/pyramid_planes_cuda.h"

namespace detectron_ext {
namespace {

// ---------------------------------------------------------------------------------------------
// Forward: a thread computes an element of the refined level
// ---------------------------------------------------------------------------------------------

struct GatherTask {
  int refine;
  int64_t planes;
  Size sizes[kMaxPyramidLevels];
  int factors[kMaxPyramidLevels];  // of the levels before `refine`: see WholeFactor
  const float* levels[kMaxPyramidLevels];
};

// sums[k] += the maxima of the windows of planes first + k.
template <int kFactor>
__device__ __forceinline__ void AddWholeMaxima(const float* level, int64_t area, int y, int x,
                                               int out_width, int count,
                                               float (&sums)[kPlanesAtOnce]) {
  // Several windows are loaded before the first one is used, but no more than fit in registers.
  constexpr int kTogether = kFactor == 2 ? kPlanesAtOnce : 1;
#pragma unroll
  for (int k0 = 0; k0 < kPlanesAtOnce; k0 += kTogether) {
    WholeWindow<kFactor> windows[kTogether];
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      if (k0 + k < count) {
        windows[k].Load(level + (k0 + k) * area, y, x, out_width);
      }
    }
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      if (k0 + k < count) {
        sums[k0 + k] += windows[k].Maximum();
      }
    }
  }
}

template <int kLevels>
__global__ void __launch_bounds__(kCudaThreads, kPyramidBlocks)
    GatherKernel(GatherTask task, float weight, float* gathered) {
  const Size refined = task.sizes[task.refine];
  const int element = blockIdx.x * kCudaThreads + threadIdx.x;
  if (element >= Area(refined)) {
    return;
  }
  const int y = element / refined.width;
  const int x = element - y * refined.width;
  int offsets[kLevels];
#pragma unroll
  for (int i = 0; i < kLevels; ++i) {
    offsets[i] = i == task.refine ? element : NearestOffset(y, x, task.sizes[i], refined);
  }
  ForPlanes(task.planes, [&](int64_t first, int count) {
    float sums[kPlanesAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kLevels; ++i) {
      const int64_t area = Area(task.sizes[i]);
      const float* const level = task.levels[i] + first * area;
      if (i < task.refine && task.factors[i] == 2) {
        AddWholeMaxima<2>(level, area, y, x, refined.width, count, sums);
      } else if (i < task.refine && task.factors[i] == 4) {
        AddWholeMaxima<4>(level, area, y, x, refined.width, count, sums);
      } else if (i < task.refine) {
        const Maxima maxima(level, area, count, task.sizes[i].width,
                            PoolWindow(y, x, task.sizes[i], refined));
#pragma unroll
        for (int k = 0; k < kPlanesAtOnce; ++k) {
          sums[k] += maxima.values[k];
        }
      } else {
#pragma unroll
        for (int k = 0; k < kPlanesAtOnce; ++k) {
          if (k < count) {
            sums[k] += level[k * area + offsets[i]];
          }
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count) {
        gathered[(first + k) * Area(refined) + element] = weight * sums[k];
      }
    }
  });
}

struct GatherLauncher {
  const GatherTask& task;
  float* gathered;
  cudaStream_t stream;

  template <int kLevels>
  void Launch() const {
    const float weight = 1.0f / static_cast<float>(kLevels);
    const dim3 grid(BlocksOfPlane(Area(task.sizes[task.refine])), PlaneGroups(task.planes));
    LaunchCuda("BalancedPyramidGather", GatherKernel<kLevels>, grid, kCudaThreads, stream, task,
               weight, gathered);
  }
};

// ---------------------------------------------------------------------------------------------
// Backward: a thread computes an element of a level, or a whole window of a level
// ---------------------------------------------------------------------------------------------

struct GatherGradientTask {
  Tasks tasks;  // one for each level
  int refine;
  int64_t planes;
  float weight;
  Size sizes[kMaxPyramidLevels];
  int factors[kMaxPyramidLevels];
  const float* levels[kMaxPyramidLevels];
  const int32_t* places[kMaxPyramidLevels];  // of levels that are not pooled by a whole factor
  float* d_levels[kMaxPyramidLevels];
};

// Writes the gradients of a window: the first maximum (or last NaN) gets all of d_out, times the
// weight; the other elements get 0.
template <int kFactor>
__device__ __forceinline__ void WholeWindowGradient(const GatherGradientTask& task, int level,
                                                    int window, const float* d_out) {
  const Size out_size = task.sizes[task.refine];
  if (window >= Area(out_size)) {
    return;
  }
  const int y = window / out_size.width;
  const int x = window - y * out_size.width;
  const int64_t area = Area(task.sizes[level]);
  const int in_width = kFactor * out_size.width;
  ForPlanes(task.planes, [&](int64_t first, int count) {
    constexpr int kTogether = kFactor == 2 ? 2 : 1;
#pragma unroll
    for (int k0 = 0; k0 < kPlanesAtOnce; k0 += kTogether) {
      WholeWindow<kFactor> windows[kTogether];
      float shares[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        if (k0 + k < count) {
          windows[k].Load(task.levels[level] + (first + k0 + k) * area, y, x, out_size.width);
          shares[k] = task.weight * d_out[(first + k0 + k) * Area(out_size) + window];
        }
      }
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        if (k0 + k >= count) {
          break;
        }
        int best = 0;
        float held = windows[k].rows[0].values[0];
#pragma unroll
        for (int i = 1; i < kFactor * kFactor; ++i) {
          const float next = windows[k].rows[i / kFactor].values[i % kFactor];
          best = Replaces(next, held) ? i : best;
          held = Larger(held, next);
        }
        float* const corner = task.d_levels[level] + (first + k0 + k) * area +
            static_cast<int64_t>(kFactor * y) * in_width + kFactor * x;
#pragma unroll
        for (int row = 0; row < kFactor; ++row) {
          Run<kFactor, float> gradients;
#pragma unroll
          for (int i = 0; i < kFactor; ++i) {
            gradients.values[i] = best == row * kFactor + i ? shares[k] : 0.0f;
          }
          gradients.Store(corner + row * in_width);
        }
      }
    }
  });
}

// d_in[element] = weight * the sums of add(first plane, count, sums).
template <typename Add>
__device__ __forceinline__ void ElementGradient(const GatherGradientTask& task, int level,
                                                int element, const Add& add) {
  const int64_t area = Area(task.sizes[level]);
  float* const d_in = task.d_levels[level] + element;
  ForPlanes(task.planes, [&](int64_t first, int count) {
    float sums[kPlanesAtOnce] = {};
    add(first, count, sums);
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count) {
        d_in[(first + k) * area] = task.weight * sums[k];
      }
    }
  });
}

__global__ void __launch_bounds__(kCudaThreads, kPyramidBlocks)
    GatherGradientKernel(GatherGradientTask task, const float* d_out) {
  const int level = task.tasks.OfBlock();
  const int item = task.tasks.ItemOfThread(level);
  if (level < task.refine && task.factors[level] == 2) {
    return WholeWindowGradient<2>(task, level, item, d_out);
  }
  if (level < task.refine && task.factors[level] == 4) {
    return WholeWindowGradient<4>(task, level, item, d_out);
  }
  const Size size = task.sizes[level];
  const Size out_size = task.sizes[task.refine];
  if (item >= Area(size)) {
    return;
  }
  const int y = item / size.width;
  const int x = item - y * size.width;
  const int64_t out_area = Area(out_size);
  if (level < task.refine) {
    const Window around = WindowsAround(y, x, size, out_size);
    const int32_t* const places = task.places[level];
    ElementGradient(task, level, item, [&](int64_t first, int count, float(&sums)[kPlanesAtOnce]) {
      AddGradientsOfMaxima(d_out + first * out_area, places + first * out_area, out_area, count,
                           out_size.width, around, item, sums);
    });
  } else {
    const Window copies = Copies(y, x, size, out_size);
    ElementGradient(task, level, item, [&](int64_t first, int count, float(&sums)[kPlanesAtOnce]) {
      AddSumsOverWindow(d_out + first * out_area, out_area, count, out_size.width, copies, sums);
    });
  }
}

int FactorOf(const PyramidShape& shape, int level) {
  return WholeFactor(SizeOf(shape.sizes[level]), SizeOf(shape.sizes[shape.refine]));
}

}  // namespace

void GatherPyramidCuda(const PyramidShape& shape, const std::vector<const float*>& levels,
                       float* gathered, cudaStream_t stream) {
  CheckAligned("BalancedPyramidGather", levels);
  GatherTask task{};
  task.refine = shape.refine;
  task.planes = shape.planes;
  for (int i = 0; i < shape.levels(); ++i) {
    task.sizes[i] = SizeOf(shape.sizes[i]);
    task.levels[i] = levels[i];
    task.factors[i] = FactorOf(shape, i);
  }
  WithLevels(shape.levels(), GatherLauncher{task, gathered, stream});
}

int64_t GatherPlaces(const PyramidShape& shape) {
  int64_t places = 0;
  for (int i = 0; i < shape.refine; ++i) {
    places += FactorOf(shape, i) == 0 ? shape.planes * shape.sizes[shape.refine].area() : 0;
  }
  return places;
}

void GatherPyramidGradientCuda(const PyramidShape& shape, const std::vector<const float*>& levels,
                               const float* d_gathered, const std::vector<float*>& d_levels,
                               int32_t* places, cudaStream_t stream) {
  const char* const name = "BalancedPyramidGatherGradient";
  CheckAligned(name, levels);
  CheckAligned(name, d_levels);
  const Size refined = SizeOf(shape.sizes[shape.refine]);
  PlacesTasks to_find{};
  to_find.planes = shape.planes;
  GatherGradientTask task{};
  task.refine = shape.refine;
  task.planes = shape.planes;
  task.weight = 1.0f / static_cast<float>(shape.levels());
  for (int i = 0; i < shape.levels(); ++i) {
    const Size size = SizeOf(shape.sizes[i]);
    task.sizes[i] = size;
    task.d_levels[i] = d_levels[i];
    if (i < shape.refine) {
      task.levels[i] = levels[i];
      task.factors[i] = FactorOf(shape, i);
      if (task.factors[i] == 0) {
        to_find.Add(size, refined, levels[i], places);
        task.places[i] = places;
        places += shape.planes * Area(refined);
      }
    }
    task.tasks.Add(task.factors[i] != 0 ? Area(refined) : Area(size));
  }
  FindPlaces(name, to_find, stream);
  LaunchCuda(name, GatherGradientKernel, dim3(task.tasks.blocks(), PlaneGroups(shape.planes)),
             kCudaThreads, stream, task, d_gathered);
}

}  // namespace detectron_ext
