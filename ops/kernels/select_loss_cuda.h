// The select form of a box loss on CUDA, for any formula. Only kernels/box_losses_cuda.cu
// includes this file; callers include kernels/losses_cuda.h.
//
// Rows may select the same predictions, or overlap. The last of all elements (row, side) that
// select a prediction owns it. It alone writes the prediction's gradient: the sum over all these
// elements, in their order.
#pragma once

#include "kernels/loss_sum_cuda.h"

namespace detectron_ext {

// This bit is set in the number of an owner if other elements select its prediction, too.
constexpr int kSharedBit = INT32_MIN;

// Returns the index in the predictions of side `i % 4` of row `i / 4`, whose place must lie inside.
__device__ inline int64_t IndexOfElement(const SelectionPointers& in, int64_t i) {
  return SelectedIndex(in.places + i / 4 * 4, in.map) + i % 4 * in.map.h * in.map.w;
}

// Returns the weight of the row of element i.
__device__ inline float WeightOfElement(const SelectionPointers& in, int64_t i) {
  return in.weights == nullptr ? 1.0f : in.weights[i / 4];
}

// Returns the first item of this thread in a loop over items. The next ones are ElementStride
// apart.
__device__ inline int64_t FirstElement() {
  return static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
}

__device__ inline int64_t ElementStride() { return static_cast<int64_t>(gridDim.x) * kCudaThreads; }

template <typename Formula>
__global__ void __launch_bounds__(kCudaThreads)
    SelectLossKernel(Formula formula, SelectionPointers in, double* partial_sums) {
  double sum = 0;
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    const double weight = WeightOfElement(in, i);
    sum += weight * formula.Loss(in.prediction[IndexOfElement(in, i)] - in.target[i]);
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    partial_sums[blockIdx.x] = sum;
  }
}

// Returns the derivative of the weighted loss of element i, which selects the prediction at `place`.
template <typename Formula>
__device__ float SlopeAt(const Formula& formula, const SelectionPointers& in, int64_t i,
                         int64_t place) {
  return WeightOfElement(in, i) * formula.Gradient(in.prediction[place] - in.target[i]);
}

// At first d_prediction holds the numbers of the owners. Only the owner of a prediction reads that
// number, and then overwrites it with the gradient.
template <typename Formula>
__global__ void __launch_bounds__(kCudaThreads)
    SelectLossGradientKernel(Formula formula, SelectionPointers in, float scale,
                             const float* d_loss, const int32_t* is_owner, float* d_prediction) {
  const float factor = scale * *d_loss / Divisor(in.normalizer);
  for (int64_t i = FirstElement(); i < 4 * in.rows; i += ElementStride()) {
    if (!is_owner[i]) {
      continue;
    }
    const int64_t place = IndexOfElement(in, i);
    float sum = 0;
    if (BitsOf(d_prediction[place]) & kSharedBit) {
      for (int64_t other = 0; other < i; ++other) {
        if (IndexOfElement(in, other) == place) {
          sum += factor * SlopeAt(formula, in, other, place);
        }
      }
    }
    d_prediction[place] = sum + factor * SlopeAt(formula, in, i, place);
  }
}

// Writes to owners[place] the number i + 1 of the element i that owns the place. Adds kSharedBit to
// it if other elements select the place, too. owners must be 0 before. Writes to is_owner[i]
// whether element i owns its place.
void ClaimPlacesCuda(const char* name, const SelectionPointers& in, int* owners, int32_t* is_owner,
                     cudaStream_t stream);

template <typename Formula>
void SelectLossCuda(const char* name, const Formula& formula, const SelectionPointers& in,
                    float scale, double* partial_sums, float* loss, cudaStream_t stream) {
  const int blocks = BlocksOfSum(4 * in.rows);
  LaunchCuda(name, SelectLossKernel<Formula>, blocks, kCudaThreads, stream, formula, in,
             partial_sums);
  FinishSum(name, partial_sums, blocks, scale, in.normalizer, loss, stream);
}

template <typename Formula>
void SelectLossGradientCuda(const char* name, const Formula& formula, const SelectionPointers& in,
                            float scale, const float* d_loss, float* d_prediction, int32_t* scratch,
                            cudaStream_t stream) {
  const int64_t size = in.map.n * in.map.c * in.map.h * in.map.w;
  CheckCuda(cudaMemsetAsync(d_prediction, 0, size * sizeof(float), stream), name);
  if (in.rows == 0) {
    return;
  }
  ClaimPlacesCuda(name, in, reinterpret_cast<int*>(d_prediction), scratch, stream);
  LaunchCuda(name, SelectLossGradientKernel<Formula>, CudaBlocks(4 * in.rows), kCudaThreads, stream,
             formula, in, scale, d_loss, scratch, d_prediction);
}

}  // namespace detectron_ext
