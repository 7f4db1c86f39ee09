#include "kernels/cuda_math.h"
#include "kernels/loss_sum_cuda.h"

namespace detectron_ext {
namespace {

struct Element {
  float prediction, target, inside, outside;
};

// kRun elements of the inputs from element kRun * run on.
template <int kRun>
struct Elements {
  Run<kRun, float> prediction, target, inside, outside;

  __device__ __forceinline__ static Elements Load(const DenseLossInputs& in, int64_t run) {
    using Floats = Run<kRun, float>;
    const int64_t first = run * kRun;
    return {Floats::Load(in.prediction + first), Floats::Load(in.target + first),
            Floats::Load(in.inside + first), Floats::Load(in.outside + first)};
  }
  __device__ __forceinline__ Element At(int i) const {
    return {prediction.values[i], target.values[i], inside.values[i], outside.values[i]};
  }
};

template <int kRun>
__global__ void __launch_bounds__(kCudaThreads)
    LossKernel(BalancedL1 formula, DenseLossInputs in, double* partial_sums) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  double sum = 0;
  for (int64_t run = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
       run < in.size / kRun; run += threads) {
    const Elements<kRun> elements = Elements<kRun>::Load(in, run);
    float terms = 0;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const Element e = elements.At(i);
      terms += e.outside * formula.Loss(e.inside * (e.prediction - e.target));
    }
    sum += terms;
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    partial_sums[blockIdx.x] = sum;
  }
}

template <int kRun>
__global__ void __launch_bounds__(kCudaThreads)
    GradientKernel(BalancedL1 formula, DenseLossInputs in, float scale, const float* d_loss,
                   float* d_prediction) {
  const float factor = scale * *d_loss;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  for (int64_t run = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
       run < in.size / kRun; run += threads) {
    const Elements<kRun> elements = Elements<kRun>::Load(in, run);
    Run<kRun, float> slopes;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const Element e = elements.At(i);
      slopes.values[i] =
          factor * formula.Gradient(e.inside * (e.prediction - e.target)) * e.inside * e.outside;
    }
    slopes.Store(d_prediction + run * kRun);
  }
}

// Boxes have four numbers; other sizes and addresses are taken one number at a time.
bool InFours(const DenseLossInputs& in) {
  return in.size % 4 == 0 &&
      AlignedTo(4 * sizeof(float), in.prediction, in.target, in.inside, in.outside);
}

}  // namespace

void BalancedL1LossCuda(const BalancedL1& formula, const DenseLossInputs& in, float factor,
                        double* partial_sums, float* loss, cudaStream_t stream) {
  const char* const name = "BalancedL1Loss";
  const bool fours = InFours(in);
  const int blocks = BlocksOfSum(fours ? in.size / 4 : in.size);
  LaunchCuda(name, fours ? LossKernel<4> : LossKernel<1>, blocks, kCudaThreads, stream, formula, in,
             partial_sums);
  FinishSum(name, partial_sums, blocks, factor, nullptr, loss, stream);
}

void BalancedL1GradientCuda(const BalancedL1& formula, const DenseLossInputs& in, float factor,
                            const float* d_loss, float* d_prediction, cudaStream_t stream) {
  const bool fours = InFours(in) && AlignedTo(4 * sizeof(float), d_prediction);
  LaunchCuda("BalancedL1LossGradient", fours ? GradientKernel<4> : GradientKernel<1>,
             CudaBlocks(fours ? in.size / 4 : in.size), kCudaThreads, stream, formula, in, factor,
             d_loss, d_prediction);
}

}  // namespace detectron_ext
