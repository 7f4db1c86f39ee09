// The dense form of a box loss on CUDA, for any formula. Only kernels/box_losses_cuda.cu includes
// this file; callers include kernels/losses_cuda.h.
#pragma once

#include "kernels/cuda_math.h"
#include "kernels/loss_sum_cuda.h"

namespace detectron_ext {

struct DenseElement {
  float prediction, target, inside, outside;
};

// kRun elements of the inputs, the first being element kRun * run.
template <int kRun>
struct DenseElements {
  Run<kRun, float> prediction, target, inside, outside;

  __device__ __forceinline__ static DenseElements Load(const DenseLossInputs& in, int64_t run) {
    using Floats = Run<kRun, float>;
    const int64_t first = run * kRun;
    return {Floats::Load(in.prediction + first), Floats::Load(in.target + first),
            Floats::Load(in.inside + first), Floats::Load(in.outside + first)};
  }
  __device__ __forceinline__ DenseElement At(int i) const {
    return {prediction.values[i], target.values[i], inside.values[i], outside.values[i]};
  }
};

template <int kRun, typename Formula>
__global__ void __launch_bounds__(kCudaThreads)
    DenseLossKernel(Formula formula, DenseLossInputs in, double* partial_sums) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  double sum = 0;
  for (int64_t run = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
       run < in.size / kRun; run += threads) {
    const DenseElements<kRun> elements = DenseElements<kRun>::Load(in, run);
    float terms = 0;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const DenseElement e = elements.At(i);
      terms += e.outside * formula.Loss(e.inside * (e.prediction - e.target));
    }
    sum += terms;
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    partial_sums[blockIdx.x] = sum;
  }
}

template <int kRun, typename Formula>
__global__ void __launch_bounds__(kCudaThreads)
    DenseLossGradientKernel(Formula formula, DenseLossInputs in, float scale, const float* d_loss,
                            float* d_prediction) {
  const float factor = scale * *d_loss;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  for (int64_t run = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
       run < in.size / kRun; run += threads) {
    const DenseElements<kRun> elements = DenseElements<kRun>::Load(in, run);
    Run<kRun, float> slopes;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const DenseElement e = elements.At(i);
      slopes.values[i] =
          factor * formula.Gradient(e.inside * (e.prediction - e.target)) * e.inside * e.outside;
    }
    slopes.Store(d_prediction + run * kRun);
  }
}

// Returns whether the sizes and the addresses allow reading four numbers at a time. Otherwise the
// kernels read one number at a time.
inline bool InFours(const DenseLossInputs& in) {
  return in.size % 4 == 0 &&
      AlignedTo(4 * sizeof(float), in.prediction, in.target, in.inside, in.outside);
}

template <typename Formula>
void DenseLossCuda(const char* name, const Formula& formula, const DenseLossInputs& in,
                   float factor, double* partial_sums, float* loss, cudaStream_t stream) {
  const bool fours = InFours(in);
  const int blocks = BlocksOfSum(fours ? in.size / 4 : in.size);
  LaunchCuda(name, fours ? DenseLossKernel<4, Formula> : DenseLossKernel<1, Formula>, blocks,
             kCudaThreads, stream, formula, in, partial_sums);
  FinishSum(name, partial_sums, blocks, factor, nullptr, loss, stream);
}

template <typename Formula>
void DenseLossGradientCuda(const char* name, const Formula& formula, const DenseLossInputs& in,
                           float factor, const float* d_loss, float* d_prediction,
                           cudaStream_t stream) {
  const bool fours = InFours(in) && AlignedTo(4 * sizeof(float), d_prediction);
  LaunchCuda(name,
             fours ? DenseLossGradientKernel<4, Formula> : DenseLossGradientKernel<1, Formula>,
             CudaBlocks(fours ? in.size / 4 : in.size), kCudaThreads, stream, formula, in, factor,
             d_loss, d_prediction);
}

}  // namespace detectron_ext
