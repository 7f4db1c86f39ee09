#include "kernels/pyramid_planes_cuda.h"

namespace detectron_ext {
namespace {

// ---------------------------------------------------------------------------------------------
// Forward: a thread computes an element of a level, or four neighbours of a row
// ---------------------------------------------------------------------------------------------

struct ScatterTask {
  Tasks tasks;  // one for each level
  int refine;
  int64_t planes;
  bool in_fours[kMaxPyramidLevels];
  Size sizes[kMaxPyramidLevels];
  const float* levels[kMaxPyramidLevels];
  float* scattered[kMaxPyramidLevels];
};

// scattered = the level + the result of resized(first plane, count, runs), in runs of kRun
// elements.
template <int kRun, typename Resized>
__device__ __forceinline__ void AddToLevel(const ScatterTask& task, int level, int run,
                                           const Resized& resized) {
  using Floats = Run<kRun, float>;
  const int64_t area = Area(task.sizes[level]);
  const float* const from = task.levels[level] + static_cast<int64_t>(run) * kRun;
  float* const to = task.scattered[level] + static_cast<int64_t>(run) * kRun;
  ForPlanes(task.planes, [&](int64_t first, int count) {
    Floats own[kPlanesAtOnce];
    Floats found[kPlanesAtOnce];
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count) {
        own[k] = Floats::Load(from + (first + k) * area);
      }
    }
    resized(first, count, found);
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count) {
#pragma unroll
        for (int i = 0; i < kRun; ++i) {
          own[k].values[i] += found[k].values[i];
        }
        own[k].Store(to + (first + k) * area);
      }
    }
  });
}

template <int kRun>
__device__ __forceinline__ void ScatterNearest(const ScatterTask& task, int level, int run,
                                               const float* balanced) {
  const Size refined = task.sizes[task.refine];
  const Size size = task.sizes[level];
  if (run >= Area(size) / kRun) {
    return;
  }
  const int y = run * kRun / size.width;
  const int x = run * kRun - y * size.width;
  const int row = NearestIndex(y, refined.height, size.height) * refined.width;
  int offsets[kRun];
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    offsets[i] = row + NearestIndex(x + i, refined.width, size.width);
  }
  const int64_t area = Area(refined);
  AddToLevel<kRun>(task, level, run,
                   [&](int64_t first, int count, Run<kRun, float>(&found)[kPlanesAtOnce]) {
#pragma unroll
                     for (int k = 0; k < kPlanesAtOnce; ++k) {
                       if (k < count) {
#pragma unroll
                         for (int i = 0; i < kRun; ++i) {
                           found[k].values[i] = balanced[(first + k) * area + offsets[i]];
                         }
                       }
                     }
                   });
}

__device__ __forceinline__ void ScatterPooled(const ScatterTask& task, int level, int element,
                                              const float* balanced) {
  const Size refined = task.sizes[task.refine];
  const Size size = task.sizes[level];
  if (element >= Area(size)) {
    return;
  }
  const int y = element / size.width;
  const Window window = PoolWindow(y, element - y * size.width, refined, size);
  const int64_t area = Area(refined);
  AddToLevel<1>(task, level, element,
                [&](int64_t first, int count, Run<1, float>(&found)[kPlanesAtOnce]) {
                  const Maxima maxima(balanced + first * area, area, count, refined.width, window);
#pragma unroll
                  for (int k = 0; k < kPlanesAtOnce; ++k) {
                    found[k].values[0] = maxima.values[k];
                  }
                });
}

__global__ void __launch_bounds__(kCudaThreads)
    ScatterKernel(ScatterTask task, const float* balanced) {
  const int level = task.tasks.OfBlock();
  const int item = task.tasks.ItemOfThread(level);
  if (level > task.refine) {
    ScatterPooled(task, level, item, balanced);
  } else if (task.in_fours[level]) {
    ScatterNearest<4>(task, level, item, balanced);
  } else {
    ScatterNearest<1>(task, level, item, balanced);
  }
}

// ---------------------------------------------------------------------------------------------
// Backward: a thread computes an element of the refined level
// ---------------------------------------------------------------------------------------------

struct ScatterGradientTask {
  int refine;
  int64_t planes;
  Size sizes[kMaxPyramidLevels];
  const float* d_scattered[kMaxPyramidLevels];  // or nullptr
  const int32_t* places[kMaxPyramidLevels];     // of the levels after `refine`
  bool doubled[kMaxPyramidLevels];              // twice the refined level's size
};

template <int kLevels>
__global__ void __launch_bounds__(kCudaThreads, kPyramidBlocks)
    ScatterGradientKernel(ScatterGradientTask task, float* d_balanced) {
  const Size refined = task.sizes[task.refine];
  const int element = blockIdx.x * kCudaThreads + threadIdx.x;
  if (element >= Area(refined)) {
    return;
  }
  const int y = element / refined.width;
  const int x = element - y * refined.width;
  Window windows[kLevels];
#pragma unroll
  for (int i = 0; i < kLevels; ++i) {
    windows[i] = i <= task.refine ? Copies(y, x, refined, task.sizes[i])
                                  : WindowsAround(y, x, refined, task.sizes[i]);
  }
  ForPlanes(task.planes, [&](int64_t first, int count) {
    float sums[kPlanesAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kLevels; ++i) {
      if (task.d_scattered[i] == nullptr) {
        continue;
      }
      const int64_t area = Area(task.sizes[i]);
      const int width = task.sizes[i].width;
      const float* const d_level = task.d_scattered[i] + first * area;
      if (task.doubled[i]) {
        WholeWindow<2> four[kPlanesAtOnce];
#pragma unroll
        for (int k = 0; k < kPlanesAtOnce; ++k) {
          if (k < count) {
            four[k].Load(d_level + k * area, y, x, refined.width);
          }
        }
#pragma unroll
        for (int k = 0; k < kPlanesAtOnce; ++k) {
          if (k < count) {
            sums[k] += (four[k].rows[0].values[0] + four[k].rows[0].values[1]) +
                (four[k].rows[1].values[0] + four[k].rows[1].values[1]);
          }
        }
        continue;
      }
      if (i <= task.refine) {
        AddSumsOverWindow(d_level, area, count, width, windows[i], sums);
      } else {
        AddGradientsOfMaxima(d_level, task.places[i] + first * area, area, count, width, windows[i],
                             element, sums);
      }
    }
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count) {
        d_balanced[(first + k) * Area(refined) + element] = sums[k];
      }
    }
  });
}

struct ScatterGradientLauncher {
  const ScatterGradientTask& task;
  float* d_balanced;
  cudaStream_t stream;

  template <int kLevels>
  void Launch() const {
    const dim3 grid(BlocksOfPlane(Area(task.sizes[task.refine])), PlaneGroups(task.planes));
    LaunchCuda("BalancedPyramidScatterGradient", ScatterGradientKernel<kLevels>, grid, kCudaThreads,
               stream, task, d_balanced);
  }
};

}  // namespace

void ScatterPyramidCuda(const PyramidShape& shape, const float* balanced,
                        const std::vector<const float*>& levels,
                        const std::vector<float*>& scattered, cudaStream_t stream) {
  ScatterTask task{};
  task.refine = shape.refine;
  task.planes = shape.planes;
  for (int i = 0; i < shape.levels(); ++i) {
    const Size size = SizeOf(shape.sizes[i]);
    const bool fours = i <= shape.refine && size.width % 4 == 0 &&
        AlignedTo(4 * sizeof(float), levels[i], scattered[i]);
    task.in_fours[i] = fours;
    task.sizes[i] = size;
    task.levels[i] = levels[i];
    task.scattered[i] = scattered[i];
    task.tasks.Add(fours ? Area(size) / 4 : Area(size));
  }
  LaunchCuda("BalancedPyramidScatter", ScatterKernel,
             dim3(task.tasks.blocks(), PlaneGroups(shape.planes)), kCudaThreads, stream, task,
             balanced);
}

int64_t ScatterPlaces(const PyramidShape& shape, const std::vector<const float*>& d_scattered) {
  int64_t places = 0;
  for (int i = shape.refine + 1; i < shape.levels(); ++i) {
    places += d_scattered[i] == nullptr ? 0 : shape.planes * shape.sizes[i].area();
  }
  return places;
}

void ScatterPyramidGradientCuda(const PyramidShape& shape, const float* balanced,
                                const std::vector<const float*>& d_scattered, float* d_balanced,
                                int32_t* places, cudaStream_t stream) {
  const char* const name = "BalancedPyramidScatterGradient";
  CheckAligned(name, d_scattered);
  const Size refined = SizeOf(shape.sizes[shape.refine]);
  PlacesTasks to_find{};
  to_find.planes = shape.planes;
  ScatterGradientTask task{};
  task.refine = shape.refine;
  task.planes = shape.planes;
  for (int i = 0; i < shape.levels(); ++i) {
    const Size size = SizeOf(shape.sizes[i]);
    task.sizes[i] = size;
    task.d_scattered[i] = d_scattered[i];
    task.doubled[i] = i < shape.refine && WholeFactor(size, refined) == 2;
    if (i > shape.refine && d_scattered[i] != nullptr) {
      to_find.Add(refined, size, balanced, places);
      task.places[i] = places;
      places += shape.planes * Area(size);
    }
  }
  FindPlaces(name, to_find, stream);
  WithLevels(shape.levels(), ScatterGradientLauncher{task, d_balanced, stream});
}

}  // namespace detectron_ext
