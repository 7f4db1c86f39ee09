// A thread takes all classes of an anchor at one position; neighbouring threads take neighbouring
// positions. Each thread has its own sum of every bin, in shared memory, so no two threads add to
// the same number. A block of threads has room for the sums of kBins bins. If there are more, other
// blocks take the anchors of the other bins.
#include "kernels/gradient_mass_cuda.h"

#include "kernels/cuda_interface.h"
#include "kernels/loss_sum_cuda.h"
#include "kernels/sigmoid_focal.h"

namespace detectron_ext {
namespace {

constexpr int kBins = 8;          // of a block of threads
constexpr int kMostBlocks = 512;  // for the same bins

template <bool kGammaTwo>
__device__ float AnchorMass(const GradientMassInputs& in, uint32_t item) {
  const SigmoidFocal<kGammaTwo> formula{in.gamma, 0.0f, 1.0f - in.alpha};
  const int64_t anchor = item / in.positions;
  const float* x = in.logits + anchor * in.classes * in.positions + (item - anchor * in.positions);
  float sum = 0;
  for (int64_t k = 0; k < in.classes; ++k, x += in.positions) {
    sum += formula.Gradient(*x, false);
  }
  return sum;
}

// partial_sums[(b - 1) * gridDim.x + blockIdx.x] = the sum of this block's anchors of bin b.
template <bool kGammaTwo>
__global__ void __launch_bounds__(kCudaThreads)
    MassKernel(GradientMassInputs in, uint32_t items, double* partial_sums) {
  __shared__ double masses[kBins][kCudaThreads];
  const int thread = static_cast<int>(threadIdx.x);
  const int first_bin = 1 + static_cast<int>(blockIdx.y) * kBins;
  const int bins = min(kBins, static_cast<int>(in.num_bins) + 1 - first_bin);
  for (int k = 0; k < kBins; ++k) {
    masses[k][thread] = 0;
  }
  const uint32_t threads = gridDim.x * kCudaThreads;
  for (uint32_t i = blockIdx.x * kCudaThreads + threadIdx.x; i < items; i += threads) {
    const int32_t bin = in.bins[i];
    if (bin >= first_bin && bin < first_bin + bins) {
      masses[bin - first_bin][thread] += AnchorMass<kGammaTwo>(in, i);
    }
  }
  for (int half = kCudaThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    for (int k = 0; k < bins && thread < half; ++k) {
      masses[k][thread] += masses[k][thread + half];
    }
  }
  __syncthreads();
  if (thread < bins) {
    partial_sums[static_cast<int64_t>(first_bin - 1 + thread) * gridDim.x + blockIdx.x] =
        masses[thread][0];
  }
}

// mass[b] = the sum of `count` partial sums of bin b + 1. Each bin has a block of threads.
__global__ void __launch_bounds__(kCudaThreads)
    SumOfBinKernel(const double* partial_sums, int count, float* mass) {
  const double* const sums = partial_sums + static_cast<int64_t>(blockIdx.x) * count;
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kCudaThreads) {
    sum += sums[i];
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    mass[blockIdx.x] = static_cast<float>(sum);
  }
}

}  // namespace

int64_t GradientMassScratch(int64_t num_bins) { return num_bins * kMostBlocks; }

void NegativeGradientMassCuda(const GradientMassInputs& in, double* scratch, float* mass,
                              cudaStream_t stream) {
  const char* const name = "NegativeGradientMass";
  const int64_t items = in.anchors * in.positions;
  if (items > INT32_MAX) {
    throw std::invalid_argument("NegativeGradientMass: too many anchors for CUDA");
  }
  const unsigned blocks = std::min(BlocksOfSum(items), kMostBlocks);
  const dim3 grid(blocks, static_cast<unsigned>((in.num_bins + kBins - 1) / kBins));
  const auto kernel = in.gamma == 2.0f ? MassKernel<true> : MassKernel<false>;
  LaunchCuda(name, kernel, grid, kCudaThreads, stream, in, items, scratch);
  LaunchCuda(name, SumOfBinKernel, static_cast<unsigned>(in.num_bins), kCudaThreads, stream,
             scratch, static_cast<int>(blocks), mass);
}

}  // namespace detectron_ext

using namespace detectron_ext;  // NOLINT: what follows is nothing but the C interface

extern "C" {

int64_t detectron_ext_gradient_mass_scratch(int64_t num_bins) {
  return GradientMassScratch(num_bins);
}

int detectron_ext_negative_gradient_mass(int64_t anchors, int64_t classes, int64_t positions,
                                         const float* logits, const int32_t* bins, int64_t num_bins,
                                         float gamma, float alpha, double* scratch, float* mass,
                                         cudaStream_t stream) {
  return Guarded([&] {
    NegativeGradientMassCuda({anchors, classes, positions, logits, bins, num_bins, gamma, alpha},
                             scratch, mass, stream);
  });
}

}  // extern "C"
