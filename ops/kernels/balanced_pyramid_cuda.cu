// Threads run along a plane and stride over planes, so that the divisions which find what an
// element depends on are made once for many planes. Gradients of maxima take two passes and no
// atomics: one notes where each window's maximum lies, one lets each element ask the few windows
// that hold it.
#include "kernels/balanced_pyramid_cuda.h"

#include "kernels/formulas.h"

namespace detectron_ext {
namespace {

// Planes that one thread strides over, where there are enough.
constexpr int64_t kPlanesPerThread = 8;
constexpr int64_t kMaxGridY = 65535;

// Positions of a window, or of an output's copies: rows [top, bottom), columns [left, right).
struct Window {
  int top, bottom, left, right;
};

struct Size {
  int height, width;
};

__device__ Window PoolWindow(int y, int x, Size in, Size out) {
  return {PoolBegin(y, in.height, out.height), PoolEnd(y, in.height, out.height),
          PoolBegin(x, in.width, out.width), PoolEnd(x, in.width, out.width)};
}

// The outputs that repeat input (y, x) in nearest resizing.
__device__ Window Copies(int y, int x, Size in, Size out) {
  return {CopiesBegin(y, in.height, out.height), CopiesBegin(y + 1, in.height, out.height),
          CopiesBegin(x, in.width, out.width), CopiesBegin(x + 1, in.width, out.width)};
}

// The outputs of adaptive pooling whose windows hold input (y, x).
__device__ Window WindowsAround(int y, int x, Size in, Size out) {
  return {y * out.height / in.height, PoolEnd(y, out.height, in.height),
          x * out.width / in.width, PoolEnd(x, out.width, in.width)};
}

__device__ int NearestOffset(int y, int x, Size in, Size out) {
  return NearestIndex(y, in.height, out.height) * in.width +
      NearestIndex(x, in.width, out.width);
}

// The offset of the first maximum in scan order.
__device__ int MaximumOffset(const float* plane, int width, const Window& window) {
  int best = window.top * width + window.left;
  float held = plane[best];
  for (int y = window.top; y < window.bottom; ++y) {
    for (int x = window.left; x < window.right; ++x) {
      const float next = plane[y * width + x];
      // The first element is held already; as a NaN it would merely replace itself.
      best = Replaces(next, held) ? y * width + x : best;
      held = Replaces(next, held) ? next : held;
    }
  }
  return best;
}

__device__ float Maximum(const float* plane, int width, const Window& window) {
  float held = plane[window.top * width + window.left];
  for (int y = window.top; y < window.bottom; ++y) {
    for (int x = window.left; x < window.right; ++x) {
      const float next = plane[y * width + x];
      held = Replaces(next, held) ? next : held;
    }
  }
  return held;
}

// What the kernels get by value. `levels` counts from 0; only some pointers are set in some
// kernels.
struct Levels {
  int count;
  int refine;
  int64_t planes;
  Size sizes[kMaxPyramidLevels];
  const float* data[kMaxPyramidLevels];
  const int32_t* places[kMaxPyramidLevels];
};

__device__ int64_t Area(Size size) { return static_cast<int64_t>(size.height) * size.width; }

// The element of a plane that this thread handles; past the area where there is none.
__device__ int ElementOfThread() { return blockIdx.x * kCudaThreads + threadIdx.x; }

template <int kLevels>
__global__ void __launch_bounds__(kCudaThreads)
    GatherKernel(Levels levels, float weight, float* gathered) {
  const Size refined = levels.sizes[levels.refine];
  const int element = ElementOfThread();
  if (element >= Area(refined)) {
    return;
  }
  const int y = element / refined.width;
  const int x = element - y * refined.width;
  Window windows[kLevels];
#pragma unroll
  for (int i = 0; i < kLevels; ++i) {
    if (i < levels.refine) {
      windows[i] = PoolWindow(y, x, levels.sizes[i], refined);
    } else {
      windows[i].left = i == levels.refine ? element
                                           : NearestOffset(y, x, levels.sizes[i], refined);
    }
  }
  for (int64_t plane = blockIdx.y; plane < levels.planes; plane += gridDim.y) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kLevels; ++i) {
      const float* level = levels.data[i] + plane * Area(levels.sizes[i]);
      sum += i < levels.refine ? Maximum(level, levels.sizes[i].width, windows[i])
                               : level[windows[i].left];
    }
    gathered[plane * Area(refined) + element] = weight * sum;
  }
}

// places[plane][o] = the offset of the maximum of o's window in `in`.
__global__ void __launch_bounds__(kCudaThreads)
    PlacesKernel(int64_t planes, Size in_size, Size out_size, const float* in, int32_t* places) {
  const int element = ElementOfThread();
  if (element >= Area(out_size)) {
    return;
  }
  const int y = element / out_size.width;
  const Window window = PoolWindow(y, element - y * out_size.width, in_size, out_size);
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    places[plane * Area(out_size) + element] =
        MaximumOffset(in + plane * Area(in_size), in_size.width, window);
  }
}

// The sum of d_out over the windows whose maximum is `element`.
__device__ float GradientOfMaxima(const Window& around, int element, int out_width,
                                  const int32_t* places, const float* d_out) {
  float sum = 0;
  for (int y = around.top; y < around.bottom; ++y) {
    for (int x = around.left; x < around.right; ++x) {
      const int window = y * out_width + x;
      sum += places[window] == element ? d_out[window] : 0.0f;
    }
  }
  return sum;
}

// The sum of d_out over a window.
__device__ float SumOverWindow(const Window& window, int out_width, const float* d_out) {
  float sum = 0;
  for (int y = window.top; y < window.bottom; ++y) {
    for (int x = window.left; x < window.right; ++x) {
      sum += d_out[y * out_width + x];
    }
  }
  return sum;
}

// d_in = weight * the gradient of a level that was pooled, given places.
__global__ void __launch_bounds__(kCudaThreads)
    PoolGradientKernel(int64_t planes, Size in_size, Size out_size, const int32_t* places,
                       const float* d_out, float weight, float* d_in) {
  const int element = ElementOfThread();
  if (element >= Area(in_size)) {
    return;
  }
  const int y = element / in_size.width;
  const Window around = WindowsAround(y, element - y * in_size.width, in_size, out_size);
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const int64_t out_plane = plane * Area(out_size);
    d_in[plane * Area(in_size) + element] = weight *
        GradientOfMaxima(around, element, out_size.width, places + out_plane, d_out + out_plane);
  }
}

// The same where every window is 2 x 2: a thread finds a window's maximum and writes all four
// gradients.
__global__ void __launch_bounds__(kCudaThreads)
    QuarterGradientKernel(int64_t planes, Size out_size, const float* in, const float* d_out,
                          float weight, float* d_in) {
  const int element = ElementOfThread();
  if (element >= Area(out_size)) {
    return;
  }
  const int y = element / out_size.width;
  const int x = element - y * out_size.width;
  const int width = 2 * out_size.width;
  const Window window{2 * y, 2 * y + 2, 2 * x, 2 * x + 2};
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const int64_t in_plane = 4 * plane * Area(out_size);
    const int best = MaximumOffset(in + in_plane, width, window);
    const float share = weight * d_out[plane * Area(out_size) + element];
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int at = (window.top + corner / 2) * width + window.left + corner % 2;
      d_in[in_plane + at] = at == best ? share : 0.0f;
    }
  }
}

// d_in = weight * the gradient of a level that was nearest-resized (or left as it was).
__global__ void __launch_bounds__(kCudaThreads)
    NearestGradientKernel(int64_t planes, Size in_size, Size out_size, const float* d_out,
                          float weight, float* d_in) {
  const int element = ElementOfThread();
  if (element >= Area(in_size)) {
    return;
  }
  const int y = element / in_size.width;
  const Window copies = Copies(y, element - y * in_size.width, in_size, out_size);
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    d_in[plane * Area(in_size) + element] =
        weight * SumOverWindow(copies, out_size.width, d_out + plane * Area(out_size));
  }
}

// out = level + `balanced` at the level's size.
template <bool kPool>
__global__ void __launch_bounds__(kCudaThreads)
    ScatterKernel(int64_t planes, Size refined, Size size, const float* balanced,
                  const float* level, float* out) {
  const int element = ElementOfThread();
  if (element >= Area(size)) {
    return;
  }
  const int y = element / size.width;
  const int x = element - y * size.width;
  const Window window = kPool ? PoolWindow(y, x, refined, size) : Window{};
  const int nearest = kPool ? 0 : NearestOffset(y, x, refined, size);
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const float* from = balanced + plane * Area(refined);
    const int64_t at = plane * Area(size) + element;
    out[at] = level[at] + (kPool ? Maximum(from, refined.width, window) : from[nearest]);
  }
}

// d_balanced from the gradients of all levels that have one.
template <int kLevels>
__global__ void __launch_bounds__(kCudaThreads)
    ScatterGradientKernel(Levels levels, float* d_balanced) {
  const Size refined = levels.sizes[levels.refine];
  const int element = ElementOfThread();
  if (element >= Area(refined)) {
    return;
  }
  const int y = element / refined.width;
  const int x = element - y * refined.width;
  Window windows[kLevels];
#pragma unroll
  for (int i = 0; i < kLevels; ++i) {
    windows[i] = i <= levels.refine ? Copies(y, x, refined, levels.sizes[i])
                                    : WindowsAround(y, x, refined, levels.sizes[i]);
  }
  for (int64_t plane = blockIdx.y; plane < levels.planes; plane += gridDim.y) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kLevels; ++i) {
      if (levels.data[i] == nullptr) {
        continue;
      }
      const int64_t at = plane * Area(levels.sizes[i]);
      const int width = levels.sizes[i].width;
      sum += i <= levels.refine
          ? SumOverWindow(windows[i], width, levels.data[i] + at)
          : GradientOfMaxima(windows[i], element, width, levels.places[i] + at,
                             levels.data[i] + at);
    }
    d_balanced[plane * Area(refined) + element] = sum;
  }
}

// ---------------------------------------------------------------------------------------------
// Launching
// ---------------------------------------------------------------------------------------------

Size SizeOf(const PyramidShape& shape, int level) {
  return {static_cast<int>(shape.sizes[level].height),
          static_cast<int>(shape.sizes[level].width)};
}

Levels LevelsOf(const PyramidShape& shape, const std::vector<const float*>& data) {
  Levels levels{};
  levels.count = shape.levels();
  levels.refine = shape.refine;
  levels.planes = shape.planes;
  for (int i = 0; i < shape.levels(); ++i) {
    levels.sizes[i] = SizeOf(shape, i);
    levels.data[i] = data[i];
  }
  return levels;
}

// A grid with a thread for each element of a plane; its rows share out the planes.
dim3 PlaneGrid(Size size, int64_t planes) {
  const int64_t area = static_cast<int64_t>(size.height) * size.width;
  const int64_t rows = (planes + kPlanesPerThread - 1) / kPlanesPerThread;
  return dim3(static_cast<unsigned>((area + kCudaThreads - 1) / kCudaThreads),
              static_cast<unsigned>(std::max<int64_t>(1, std::min(rows, kMaxGridY))));
}

// Calls use.Run<kLevels>() with the number of levels.
template <typename Use>
void WithLevels(int levels, const Use& use) {
  switch (levels) {
    case 2: return use.template Run<2>();
    case 3: return use.template Run<3>();
    case 4: return use.template Run<4>();
    case 5: return use.template Run<5>();
    case 6: return use.template Run<6>();
    case 7: return use.template Run<7>();
    case 8: return use.template Run<8>();
    default: throw std::invalid_argument("a pyramid has 2 to 8 levels");
  }
}

struct GatherLauncher {
  const Levels& levels;
  float* gathered;
  cudaStream_t stream;

  template <int kLevels>
  void Run() const {
    const float weight = 1.0f / static_cast<float>(kLevels);
    LaunchCuda("BalancedPyramidGather", GatherKernel<kLevels>,
               PlaneGrid(levels.sizes[levels.refine], levels.planes), kCudaThreads, stream,
               levels, weight, gathered);
  }
};

struct ScatterGradientLauncher {
  const Levels& levels;
  float* d_balanced;
  cudaStream_t stream;

  template <int kLevels>
  void Run() const {
    LaunchCuda("BalancedPyramidScatterGradient", ScatterGradientKernel<kLevels>,
               PlaneGrid(levels.sizes[levels.refine], levels.planes), kCudaThreads, stream,
               levels, d_balanced);
  }
};

bool Halves(Size in, Size out) {
  return in.height == 2 * out.height && in.width == 2 * out.width;
}

}  // namespace

void GatherPyramidCuda(const PyramidShape& shape, const std::vector<const float*>& levels,
                       float* gathered, cudaStream_t stream) {
  WithLevels(shape.levels(), GatherLauncher{LevelsOf(shape, levels), gathered, stream});
}

int64_t GatherPlaces(const PyramidShape& shape) {
  return shape.refine == 0 ? 0 : shape.planes * shape.sizes[shape.refine].area();
}

void GatherPyramidGradientCuda(const PyramidShape& shape, const std::vector<const float*>& levels,
                               const float* d_gathered, const std::vector<float*>& d_levels,
                               int32_t* places, cudaStream_t stream) {
  const char* const name = "BalancedPyramidGatherGradient";
  const Size refined = SizeOf(shape, shape.refine);
  const float weight = 1.0f / static_cast<float>(shape.levels());
  const dim3 refined_grid = PlaneGrid(refined, shape.planes);
  for (int i = 0; i < shape.levels(); ++i) {
    const Size size = SizeOf(shape, i);
    const dim3 grid = PlaneGrid(size, shape.planes);
    if (i >= shape.refine) {
      LaunchCuda(name, NearestGradientKernel, grid, kCudaThreads, stream, shape.planes, size,
                 refined, d_gathered, weight, d_levels[i]);
    } else if (Halves(size, refined)) {
      LaunchCuda(name, QuarterGradientKernel, refined_grid, kCudaThreads, stream, shape.planes,
                 refined, levels[i], d_gathered, weight, d_levels[i]);
    } else {
      LaunchCuda(name, PlacesKernel, refined_grid, kCudaThreads, stream, shape.planes, size,
                 refined, levels[i], places);
      LaunchCuda(name, PoolGradientKernel, grid, kCudaThreads, stream, shape.planes, size,
                 refined, places, d_gathered, weight, d_levels[i]);
    }
  }
}

void ScatterPyramidCuda(const PyramidShape& shape, const float* balanced,
                        const std::vector<const float*>& levels,
                        const std::vector<float*>& scattered, cudaStream_t stream) {
  const char* const name = "BalancedPyramidScatter";
  const Size refined = SizeOf(shape, shape.refine);
  for (int i = 0; i < shape.levels(); ++i) {
    const Size size = SizeOf(shape, i);
    LaunchCuda(name, i > shape.refine ? ScatterKernel<true> : ScatterKernel<false>,
               PlaneGrid(size, shape.planes), kCudaThreads, stream, shape.planes, refined, size,
               balanced, levels[i], scattered[i]);
  }
}

int64_t ScatterPlaces(const PyramidShape& shape) {
  int64_t places = 0;
  for (int i = shape.refine + 1; i < shape.levels(); ++i) {
    places += shape.planes * shape.sizes[i].area();
  }
  return places;
}

void ScatterPyramidGradientCuda(const PyramidShape& shape, const float* balanced,
                                const std::vector<const float*>& d_scattered, float* d_balanced,
                                int32_t* places, cudaStream_t stream) {
  Levels levels = LevelsOf(shape, d_scattered);
  const Size refined = SizeOf(shape, shape.refine);
  for (int i = shape.refine + 1; i < shape.levels(); ++i) {
    if (d_scattered[i] != nullptr) {
      const Size size = SizeOf(shape, i);
      LaunchCuda("BalancedPyramidScatterGradient", PlacesKernel, PlaneGrid(size, shape.planes),
                 kCudaThreads, stream, shape.planes, refined, size, balanced, places);
    }
    levels.places[i] = places;
    places += shape.planes * shape.sizes[i].area();
  }
  WithLevels(shape.levels(), ScatterGradientLauncher{levels, d_balanced, stream});
}

}  // namespace detectron_ext
