// Rows may select the same predictions, or overlap. Of all elements (row, side) that select a
// prediction the last one owns it: it alone writes the prediction's gradient, adding up all of them
// in their order.
#include "kernels/loss_sum_cuda.h"

namespace detectron_ext {
namespace {

constexpr int kSharedBit = INT32_MIN;  // in an owner's number: others select the same

__device__ bool PlaceIsInside(const SelectionPointers& in, const float* place) {
  return place[0] > -1 && place[0] < in.n && place[1] > -1 && place[1] < in.c - 3 &&
      place[2] > -1 && place[2] < in.h && place[3] > -1 && place[3] < in.w;
}

// The index of side `i % 4` of row `i / 4` in the predictions.
__device__ int64_t SelectedIndex(const SelectionPointers& in, int64_t i) {
  const float* place = in.places + i / 4 * 4;
  const int64_t n = static_cast<int64_t>(place[0]);
  const int64_t c = static_cast<int64_t>(place[1]) + i % 4;
  const int64_t y = static_cast<int64_t>(place[2]);
  const int64_t x = static_cast<int64_t>(place[3]);
  return ((n * in.c + c) * in.h + y) * in.w + x;
}

__device__ int64_t FirstElement() {
  return static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
}

__device__ int64_t ElementStride() { return static_cast<int64_t>(gridDim.x) * kCudaThreads; }

__global__ void __launch_bounds__(kCudaThreads)
    FindOutsideKernel(SelectionPointers in, int* first_outside) {
  for (int64_t row = FirstElement(); row < in.rows; row += ElementStride()) {
    if (!PlaceIsInside(in, in.places + 4 * row)) {
      atomicMin(first_outside, static_cast<int>(row));
    }
  }
}

__global__ void SetKernel(int* where, int value) { *where = value; }

__global__ void __launch_bounds__(kCudaThreads)
    LossKernel(BalancedL1 formula, SelectionPointers in, double* partial_sums) {
  double sum = 0;
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    sum += formula.Loss(in.prediction[SelectedIndex(in, i)] - in.target[i]);
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    partial_sums[blockIdx.x] = sum;
  }
}

// owners[place] = the largest i + 1 of those that select it; owners must be 0.
__global__ void __launch_bounds__(kCudaThreads) ClaimKernel(SelectionPointers in, int* owners) {
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    atomicMax(owners + SelectedIndex(in, i), static_cast<int>(i + 1));
  }
}

// is_owner[i] = whether i owns its place; places of several get the bit.
__global__ void __launch_bounds__(kCudaThreads)
    ShareKernel(SelectionPointers in, int* owners, int32_t* is_owner) {
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    int* const owner = owners + SelectedIndex(in, i);
    is_owner[i] = (*owner & ~kSharedBit) == i + 1;
    if (!is_owner[i]) {
      atomicOr(owner, kSharedBit);
    }
  }
}

__device__ float SlopeAt(const BalancedL1& formula, const SelectionPointers& in, int64_t i,
                         int64_t place) {
  return formula.Gradient(in.prediction[place] - in.target[i]);
}

// Owners write over their own numbers, which nobody else reads any more.
__global__ void __launch_bounds__(kCudaThreads)
    WriteKernel(BalancedL1 formula, SelectionPointers in, float scale, const float* d_loss,
                const int32_t* is_owner, float* d_prediction) {
  const float factor = scale * *d_loss / Divisor(in.normalizer);
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    if (!is_owner[i]) {
      continue;
    }
    const int64_t place = SelectedIndex(in, i);
    float sum = 0;
    if (BitsOf(d_prediction[place]) & kSharedBit) {
      for (int64_t other = 0; other < i; ++other) {
        if (SelectedIndex(in, other) == place) {
          sum += factor * SlopeAt(formula, in, other, place);
        }
      }
    }
    d_prediction[place] = sum + factor * SlopeAt(formula, in, i, place);
  }
}

}  // namespace

void FindOutsideCuda(const SelectionPointers& in, int* first_outside, cudaStream_t stream) {
  LaunchCuda("SelectBalancedL1Loss", SetKernel, 1, 1, stream, first_outside,
             static_cast<int>(in.rows));
  LaunchCuda("SelectBalancedL1Loss", FindOutsideKernel, CudaBlocks(in.rows), kCudaThreads, stream,
             in, first_outside);
}

void SelectBalancedL1LossCuda(const BalancedL1& formula, const SelectionPointers& in, float scale,
                              double* partial_sums, float* loss, cudaStream_t stream) {
  const char* const name = "SelectBalancedL1Loss";
  const int blocks = BlocksOfSum(4 * in.rows);
  LaunchCuda(name, LossKernel, blocks, kCudaThreads, stream, formula, in, partial_sums);
  FinishSum(name, partial_sums, blocks, scale, in.normalizer, loss, stream);
}

int64_t SelectScratch(int64_t rows) { return 4 * rows; }

void SelectBalancedL1GradientCuda(const BalancedL1& formula, const SelectionPointers& in,
                                  float scale, const float* d_loss, float* d_prediction,
                                  int32_t* scratch, cudaStream_t stream) {
  const char* const name = "SelectBalancedL1LossGradient";
  const int64_t size = in.n * in.c * in.h * in.w;
  CheckCuda(cudaMemsetAsync(d_prediction, 0, size * sizeof(float), stream), name);
  if (in.rows == 0) {
    return;
  }
  const unsigned blocks = CudaBlocks(4 * in.rows);
  int* const owners = reinterpret_cast<int*>(d_prediction);
  LaunchCuda(name, ClaimKernel, blocks, kCudaThreads, stream, in, owners);
  LaunchCuda(name, ShareKernel, blocks, kCudaThreads, stream, in, owners, scratch);
  LaunchCuda(name, WriteKernel, blocks, kCudaThreads, stream, formula, in, scale, d_loss, scratch,
             d_prediction);
}

}  // namespace detectron_ext
