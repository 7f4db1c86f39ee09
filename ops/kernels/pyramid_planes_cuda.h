// What the kernels of the balanced pyramid share: how elements and planes are divided among
// threads, and how outputs and inputs of pooling and resizing depend on each other.
//
// A thread has one place in the planes and loops over planes. So the divisions that find what an
// element depends on are computed once for many planes. One launch serves all levels: data that
// several levels read are then still in the cache.
#pragma once

#include <vector>

#include "kernels/balanced_pyramid_cuda.h"
#include "kernels/cuda_math.h"
#include "kernels/resize_indices.h"

namespace detectron_ext {

constexpr int kPlanesOfThread = 8;
constexpr int kPlanesAtOnce = 4;  // planes whose loads are in flight together
constexpr int64_t kMaxGridY = 65535;
// At least this many blocks share a multiprocessor. This leaves 80 registers to a thread.
constexpr int kPyramidBlocks = 3;

struct Size {
  int height, width;
};

inline Size SizeOf(const PlaneSize& size) {
  return {static_cast<int>(size.height), static_cast<int>(size.width)};
}

__host__ __device__ inline int64_t Area(Size size) {
  return static_cast<int64_t>(size.height) * size.width;
}

// Returns the factor by which pooling shrinks both sides if it is 2 or 4, else 0. A row of such a
// window is loaded in one access.
inline int WholeFactor(Size in, Size out) {
  for (const int factor : {2, 4}) {
    if (in.height == factor * out.height && in.width == factor * out.width) {
      return factor;
    }
  }
  return 0;
}

// Throws if a level does not start at a multiple of 16 bytes, as allocations do.
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

// Rows [top, bottom) and columns [left, right) of a plane. A thread holds many windows. Sides are
// below 2^15, so two numbers can share a register.
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

// Returns the inputs of output (y, x) of adaptive pooling.
__device__ inline Window PoolWindow(int y, int x, Size in, Size out) {
  return Window(PoolBegin(y, in.height, out.height), PoolEnd(y, in.height, out.height),
                PoolBegin(x, in.width, out.width), PoolEnd(x, in.width, out.width));
}

// Returns the outputs that repeat input (y, x) in nearest resizing.
__device__ inline Window Copies(int y, int x, Size in, Size out) {
  return Window(CopiesBegin(y, in.height, out.height), CopiesBegin(y + 1, in.height, out.height),
                CopiesBegin(x, in.width, out.width), CopiesBegin(x + 1, in.width, out.width));
}

// Returns the outputs of adaptive pooling whose windows contain input (y, x).
__device__ inline Window WindowsAround(int y, int x, Size in, Size out) {
  return Window(y * out.height / in.height, PoolEnd(y, out.height, in.height),
                x * out.width / in.width, PoolEnd(x, out.width, in.width));
}

// Returns the offset of the input that output (y, x) of nearest resizing repeats.
__device__ inline int NearestOffset(int y, int x, Size in, Size out) {
  return NearestIndex(y, in.height, out.height) * in.width + NearestIndex(x, in.width, out.width);
}

// ---------------------------------------------------------------------------------------------
// Values
// ---------------------------------------------------------------------------------------------

// Returns the maximum so far, after `next`. A NaN replaces any number.
__device__ __forceinline__ float Larger(float held, float next) {
  return Replaces(next, held) ? next : held;
}

// Finds the maximum of a window in each of `count` planes, which are `area` apart.
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
    // The first element is the start value. If it is NaN it only replaces itself.
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

// Adds to sums[k] the sum over a window of plane k, for `count` planes, `area` apart.
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

// Adds to sums[k] the sum of plane k of d_out over the windows `around` whose maximum is `element`.
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

// A window of kFactor x kFactor elements. Each row is loaded in one access.
template <int kFactor>
struct WholeWindow {
  Run<kFactor, float> rows[kFactor];

  // Loads the window of output (y, x). `in` is kFactor times as wide as the output.
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

// Calls body(first, count) for the planes of this thread, up to kPlanesAtOnce of them at a time.
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

// Returns the number of blocks along y of a grid for `planes` planes.
inline unsigned PlaneGroups(int64_t planes) {
  const int64_t groups = (planes + kPlanesOfThread - 1) / kPlanesOfThread;
  return static_cast<unsigned>(std::max<int64_t>(1, std::min(groups, kMaxGridY)));
}

// Returns the number of blocks of threads with one thread for each item of a plane.
inline unsigned BlocksOfPlane(int64_t items) {
  return static_cast<unsigned>((items + kCudaThreads - 1) / kCudaThreads);
}

// Divides the blocks of a launch among tasks, such as levels.
struct Tasks {
  int count = 0;
  unsigned first_block[kMaxPyramidLevels + 1] = {};

  // Adds a task with `items` items in each plane.
  void Add(int64_t items) {
    first_block[count + 1] = first_block[count] + BlocksOfPlane(items);
    ++count;
  }
  unsigned blocks() const { return first_block[count]; }

  // Returns the task of this block.
  __device__ int OfBlock() const {
    int task = 0;
    while (blockIdx.x >= first_block[task + 1]) {
      ++task;
    }
    return task;
  }
  // Returns the item of a plane that this thread computes. It may be beyond the last one.
  __device__ int ItemOfThread(int task) const {
    return static_cast<int>(blockIdx.x - first_block[task]) * kCudaThreads + threadIdx.x;
  }
};

// ---------------------------------------------------------------------------------------------
// Places of maxima
// ---------------------------------------------------------------------------------------------

// Adaptive poolings whose maxima are wanted: places[plane][o] = the offset in `in` of the first
// maximum, in scan order, of the window of output o.
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

// Writes the places of all tasks.
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
