#include "kernels/loss_sum_cuda.h"

namespace detectron_ext {
namespace {

__global__ void __launch_bounds__(kCudaThreads)
    FinishKernel(const double* partial_sums, int count, float scale, const float* normalizer,
                 float* loss) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kCudaThreads) {
    sum += partial_sums[i];
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    *loss = static_cast<float>(scale * sum / Divisor(normalizer));
  }
}

}  // namespace

void FinishSum(const char* name, const double* partial_sums, int count, float scale,
               const float* normalizer, float* loss, cudaStream_t stream) {
  LaunchCuda(name, FinishKernel, 1, kCudaThreads, stream, partial_sums, count, scale, normalizer,
             loss);
}

}  // namespace detectron_ext
