// What the kernels of the balanced pyramid share: how elements and planes are divided among
// threads, and how outputs and inputs of pooling and resizing depend on each other.
//
// Threads run along a plane and walk over planes, so that the divisions which find what an element
// depends on are made once for many planes. One launch serves all levels: what several of them read
// is then still in the cache.
#pragma once

#include <vector>

#include "kernels/balanced_pyramid_cuda.h"
#include "kernels/cuda_math.h"
#include "kernels/formulas.h"

namespace detectron_ext {

constexpr int kPlanesOfThread = 8;
constexpr int kPlanesAtOnce = 4;  // whose loads are under way together
constexpr int64_t kMaxGridY = 65535;
constexpr int kPyramidBlocks = 3;  // on a multiprocessor at least: 80 registers a thread

struct Size {
  int height, width;
};

inline Size SizeOf(const PlaneSize& size) {
  return {static_cast<int>(size.height), static_cast<int>(size.width)};
}

__host__ __device__ inline int64_t Area(Size size) {
  return static_cast<int64_t>(size.height) * size.width;
}

// The whole factor by which pooling shrinks both sides, 2 or 4; 0 for all other pairs of sizes.
// Rows of such windows are loaded at once.
inline int WholeFactor(Size in, Size out) {
  for (const int factor : {2, 4}) {
    if (in.height == factor * out.height && in.width == factor * out.width) {
      return factor;
    }
  }
  return 0;
}

// Throws where a level does not start at a multiple of 16 bytes, as allocations do.
template <typename Pointer>
void CheckAligned(const char* name, const std::vector<Pointer>& levels) {
  for (const float* level : levels) {
    if (!AlignedTo(4 * sizeof(float), level)) {
      throw std::invalid_argument(std::string(name) + ": a level is not aligned to 16 bytes");
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Positions
// ---------------------------------------------------------------------------------------------

// Rows [top, bottom) and columns [left, right) of a plane, whose sides are below 2^15: many of them
// are held in registers.
class Window {
 public:
  Window() = default;
  __device__ Window(int top, int bottom, int left, int right)
      : rows_(Pack(top, bottom)), columns_(Pack(left, right)) {}

  __device__ int top() const { return rows_ & 0xffff; }
  __device__ int bottom() const { return rows_ >> 16; }
  __device__ int left() const { return columns_ & 0xffff; }
  __device__ int right() const { return columns_ >> 16; }

  // Calls body(offset in the plane) for every position, row by row.
  template <typename Body>
  __device__ __forceinline__ void ForEach(int width, const Body& body) const {
    for (int y = top(); y < bottom(); ++y) {
      for (int x = left(); x < right(); ++x) {
        body(y * width + x);
      }
    }
  }

 private:
  __device__ static uint32_t Pack(int first, int last) {
    return static_cast<uint32_t>(first) | static_cast<uint32_t>(last) << 16;
  }

  uint32_t rows_;
  uint32_t columns_;
};

__device__ inline Window PoolWindow(int y, int x, Size in, Size out) {
  return Window(PoolBegin(y, in.height, out.height), PoolEnd(y, in.height, out.height),
                PoolBegin(x, in.width, out.width), PoolEnd(x, in.width, out.width));
}

// The outputs that repeat input (y, x) in nearest resizing.
__device__ inline Window Copies(int y, int x, Size in, Size out) {
  return Window(CopiesBegin(y, in.height, out.height), CopiesBegin(y + 1, in.height, out.height),
                CopiesBegin(x, in.width, out.width), CopiesBegin(x + 1, in.width, out.width));
}

// The outputs of adaptive pooling whose windows hold input (y, x).
__device__ inline Window WindowsAround(int y, int x, Size in, Size out) {
  return Window(y * out.height / in.height, PoolEnd(y, out.height, in.height),
                x * out.width / in.width, PoolEnd(x, out.width, in.width));
}

__device__ inline int NearestOffset(int y, int x, Size in, Size out) {
  return NearestIndex(y, in.height, out.height) * in.width + NearestIndex(x, in.width, out.width);
}

// ---------------------------------------------------------------------------------------------
// Values
// ---------------------------------------------------------------------------------------------

__device__ __forceinline__ float Larger(float held, float next) {
  return Replaces(next, held) ? next : held;
}

// Of each of `count` planes, `area` apart: the maximum of a window ...
struct Maxima {
  float values[kPlanesAtOnce];
  int offsets[kPlanesAtOnce];  // of the first in scan order

  __device__ __forceinline__ Maxima(const float* planes, int64_t area, int count, int width,
                                    const Window& window) {
    const int first = window.top() * width + window.left();
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      offsets[k] = first;
      values[k] = k < count ? planes[k * area + first] : 0.0f;
    }
    // The first element is held already; as a NaN it would merely replace itself.
    window.ForEach(width, [&](int offset) {
#pragma unroll
      for (int k = 0; k < kPlanesAtOnce; ++k) {
        if (k < count) {
          const float next = planes[k * area + offset];
          offsets[k] = Replaces(next, values[k]) ? offset : offsets[k];
          values[k] = Larger(values[k], next);
        }
      }
    });
  }
};

// ... sums[k] += the sum over a window ...
__device__ __forceinline__ void AddSumsOverWindow(const float* planes, int64_t area, int count,
                                                  int width, const Window& window,
                                                  float (&sums)[kPlanesAtOnce]) {
  window.ForEach(width, [&](int offset) {
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count) {
        sums[k] += planes[k * area + offset];
      }
    }
  });
}

// ... sums[k] += the sum of d_out over the windows `around` whose maximum is `element`.
__device__ __forceinline__ void AddGradientsOfMaxima(const float* d_out, const int32_t* places,
                                                     int64_t area, int count, int width,
                                                     const Window& around, int element,
                                                     float (&sums)[kPlanesAtOnce]) {
  around.ForEach(width, [&](int offset) {
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count && places[k * area + offset] == element) {
        sums[k] += d_out[k * area + offset];
      }
    }
  });
}

// A window of kFactor x kFactor, each row loaded at once.
template <int kFactor>
struct WholeWindow {
  Run<kFactor, float> rows[kFactor];

  // output: the window's place, `in` of kFactor times the output's width.
  __device__ __forceinline__ void Load(const float* in, int y, int x, int out_width) {
    const float* const corner =
        in + static_cast<int64_t>(kFactor * y) * kFactor * out_width + kFactor * x;
#pragma unroll
    for (int i = 0; i < kFactor; ++i) {
      rows[i] = Run<kFactor, float>::Load(corner + i * kFactor * out_width);
    }
  }
  __device__ __forceinline__ float Maximum() const {
    float held = rows[0].values[0];
#pragma unroll
    for (int i = 1; i < kFactor * kFactor; ++i) {
      held = Larger(held, rows[i / kFactor].values[i % kFactor]);
    }
    return held;
  }
};

// ---------------------------------------------------------------------------------------------
// Threads
// ---------------------------------------------------------------------------------------------

// Calls body(first, count) for the planes of this thread, count of them up to kPlanesAtOnce.
template <typename Body>
__device__ __forceinline__ void ForPlanes(int64_t planes, const Body& body) {
  for (int64_t group = blockIdx.y; group * kPlanesOfThread < planes; group += gridDim.y) {
#pragma unroll 1
    for (int i = 0; i < kPlanesOfThread; i += kPlanesAtOnce) {
      const int64_t first = group * kPlanesOfThread + i;
      const int64_t left = planes - first;
      if (left > 0) {
        body(first, left < kPlanesAtOnce ? static_cast<int>(left) : kPlanesAtOnce);
      }
    }
  }
}

inline unsigned PlaneGroups(int64_t planes) {
  const int64_t groups = (planes + kPlanesOfThread - 1) / kPlanesOfThread;
  return static_cast<unsigned>(std::max<int64_t>(1, std::min(groups, kMaxGridY)));
}

inline unsigned BlocksOfPlane(int64_t items) {
  return static_cast<unsigned>((items + kCudaThreads - 1) / kCudaThreads);
}

// Shares out the blocks of a launch among tasks: levels, say.
struct Tasks {
  int count = 0;
  unsigned first_block[kMaxPyramidLevels + 1] = {};

  // Adds a task of so many items in each plane.
  void Add(int64_t items) {
    first_block[count + 1] = first_block[count] + BlocksOfPlane(items);
    ++count;
  }
  unsigned blocks() const { return first_block[count]; }

  __device__ int OfBlock() const {
    int task = 0;
    while (blockIdx.x >= first_block[task + 1]) {
      ++task;
    }
    return task;
  }
  // Which item of its plane this thread has; it may be beyond the last.
  __device__ int ItemOfThread(int task) const {
    return static_cast<int>(blockIdx.x - first_block[task]) * kCudaThreads + threadIdx.x;
  }
};

// ---------------------------------------------------------------------------------------------
// Places of maxima
// ---------------------------------------------------------------------------------------------

// Adaptive poolings whose maxima are to be found: places[plane][o] = the offset of the first
// maximum, in scan order, of o's window in `in`.
struct PlacesTasks {
  Tasks tasks;
  int64_t planes;
  Size in_sizes[kMaxPyramidLevels];
  Size out_sizes[kMaxPyramidLevels];
  const float* in[kMaxPyramidLevels];
  int32_t* places[kMaxPyramidLevels];

  void Add(Size in_size, Size out_size, const float* input, int32_t* output) {
    in_sizes[tasks.count] = in_size;
    out_sizes[tasks.count] = out_size;
    in[tasks.count] = input;
    places[tasks.count] = output;
    tasks.Add(Area(out_size));
  }
};

void FindPlaces(const char* name, const PlacesTasks& tasks, cudaStream_t stream);

// Calls use.Launch<kLevels>() with the number of levels.
template <typename Use>
void WithLevels(int levels, const Use& use) {
  switch (levels) {
    case 2:
      return use.template Launch<2>();
    case 3:
      return use.template Launch<3>();
    case 4:
      return use.template Launch<4>();
    case 5:
      return use.template Launch<5>();
    case 6:
      return use.template Launch<6>();
    case 7:
      return use.template Launch<7>();
    case 8:
      return use.template Launch<8>();
    default:
      throw std::invalid_argument("a pyramid has 2 to 8 levels");
  }
}

}  // namespace detectron_ext
