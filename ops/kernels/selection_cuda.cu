// What the select form of every box loss shares: checking places and finding their owners.
#include "kernels/select_loss_cuda.h"

namespace detectron_ext {
namespace {

// Lowers *first_outside to the first row whose place lies outside the map.
__global__ void __launch_bounds__(kCudaThreads)
    FindOutsideKernel(SelectionPointers in, int* first_outside) {
  for (int64_t row = FirstElement(); row < in.rows; row += ElementStride()) {
    if (SelectedIndex(in.places + 4 * row, in.map) < 0) {
      atomicMin(first_outside, static_cast<int>(row));
    }
  }
}

// *where = value.
__global__ void SetKernel(int* where, int value) { *where = value; }

// Writes to owners[place] the largest i + 1 of the elements i that select the place.
__global__ void __launch_bounds__(kCudaThreads) ClaimKernel(SelectionPointers in, int* owners) {
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    atomicMax(owners + IndexOfElement(in, i), static_cast<int>(i + 1));
  }
}

// Writes to is_owner[i] whether i owns its place; sets kSharedBit if several select a place.
__global__ void __launch_bounds__(kCudaThreads)
    ShareKernel(SelectionPointers in, int* owners, int32_t* is_owner) {
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    int* const owner = owners + IndexOfElement(in, i);
    is_owner[i] = (*owner & ~kSharedBit) == i + 1;
    if (!is_owner[i]) {
      atomicOr(owner, kSharedBit);
    }
  }
}

}  // namespace

void FindOutsideCuda(const char* name, const SelectionPointers& in, int* first_outside,
                     cudaStream_t stream) {
  LaunchCuda(name, SetKernel, 1, 1, stream, first_outside, static_cast<int>(in.rows));
  LaunchCuda(name, FindOutsideKernel, CudaBlocks(in.rows), kCudaThreads, stream, in, first_outside);
}

void ClaimPlacesCuda(const char* name, const SelectionPointers& in, int* owners, int32_t* is_owner,
                     cudaStream_t stream) {
  const unsigned blocks = CudaBlocks(4 * in.rows);
  LaunchCuda(name, ClaimKernel, blocks, kCudaThreads, stream, in, owners);
  LaunchCuda(name, ShareKernel, blocks, kCudaThreads, stream, in, owners, is_owner);
}

}  // namespace detectron_ext
