#include "kernels/pyramid_planes_cuda.h"

namespace detectron_ext {
namespace {

__global__ void __launch_bounds__(kCudaThreads) PlacesKernel(PlacesTasks tasks) {
  const int task = tasks.tasks.OfBlock();
  const Size in_size = tasks.in_sizes[task];
  const Size out_size = tasks.out_sizes[task];
  const int element = tasks.tasks.ItemOfThread(task);
  if (element >= Area(out_size)) {
    return;
  }
  const int y = element / out_size.width;
  const Window window = PoolWindow(y, element - y * out_size.width, in_size, out_size);
  const float* const in = tasks.in[task];
  int32_t* const places = tasks.places[task];
  ForPlanes(tasks.planes, [&](int64_t first, int count) {
    const Maxima maxima(in + first * Area(in_size), Area(in_size), count, in_size.width, window);
#pragma unroll
    for (int k = 0; k < kPlanesAtOnce; ++k) {
      if (k < count) {
        places[(first + k) * Area(out_size) + element] = maxima.offsets[k];
      }
    }
  });
}

}  // namespace

void FindPlaces(const char* name, const PlacesTasks& tasks, cudaStream_t stream) {
  if (tasks.tasks.count > 0) {
    LaunchCuda(name, PlacesKernel, dim3(tasks.tasks.blocks(), PlaneGroups(tasks.planes)),
               kCudaThreads, stream, tasks);
  }
}

}  // namespace detectron_ext
