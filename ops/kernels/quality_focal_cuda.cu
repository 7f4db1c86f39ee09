// Quality focal loss on CUDA. A thread takes all classes of an anchor at one position; they share its
// label. Neighbouring threads take neighbouring positions.
#include "kernels/quality_focal_cuda.h"

#include "kernels/loss_sum_cuda.h"
#include "kernels/quality_focal.h"
#include "kernels/sigmoid_focal.h"

namespace detectron_ext {
namespace {

// Returns the number of threads' worth of work. Throws if a kernel cannot count it.
int64_t ItemsOf(const QualityFocalPointers& in) {
  const int64_t items = in.anchors * in.positions;
  if (items > INT32_MAX || in.classes > INT32_MAX) {
    throw std::invalid_argument("QualityFocalLoss: too many logits for CUDA");
  }
  return items;
}

// Calls visit(index of a logit, its class from 1) for the classes of an item.
template <typename Visit>
__device__ void ForEachClass(const QualityFocalPointers& in, uint32_t item, const Visit& visit) {
  const int64_t anchor = item / in.positions;
  int64_t logit = anchor * in.classes * in.positions + (item - anchor * in.positions);
  for (int c = 1; c <= in.classes; ++c, logit += in.positions) {
    visit(logit, c);
  }
}

template <bool kBetaTwo>
__global__ void __launch_bounds__(kCudaThreads)
    QualityLossKernel(QualityFocalPointers in, uint32_t items, double* partial_sums) {
  const SigmoidFocal<kBetaTwo> negatives{in.beta, 0.0f, in.negative_weight};
  const QualityFocal positives{in.beta, in.positive_weight};
  const uint32_t threads = gridDim.x * kCudaThreads;
  double sum = 0;
  for (uint32_t i = blockIdx.x * kCudaThreads + threadIdx.x; i < items; i += threads) {
    const int32_t label = in.labels[i];
    if (label == -1) {
      continue;
    }
    float losses = 0;
    ForEachClass(in, i, [&](int64_t logit, int c) {
      const float x = in.logits[logit];
      losses += label == c ? positives.Loss(x, in.quality[i]) : negatives.Loss(x, false);
    });
    sum += losses;
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    partial_sums[blockIdx.x] = sum;
  }
}

template <bool kBetaTwo>
__global__ void __launch_bounds__(kCudaThreads)
    QualityGradientKernel(QualityFocalPointers in, uint32_t items, float scale, const float* d_loss,
                          float* d_logits) {
  const SigmoidFocal<kBetaTwo> negatives{in.beta, 0.0f, in.negative_weight};
  const QualityFocal positives{in.beta, in.positive_weight};
  const float factor = scale * *d_loss / Divisor(in.normalizer);
  const uint32_t threads = gridDim.x * kCudaThreads;
  for (uint32_t i = blockIdx.x * kCudaThreads + threadIdx.x; i < items; i += threads) {
    const int32_t label = in.labels[i];
    ForEachClass(in, i, [&](int64_t logit, int c) {
      const float x = in.logits[logit];
      float slope = 0.0f;
      if (label != -1) {
        slope = factor *
            (label == c ? positives.Gradient(x, in.quality[i]) : negatives.Gradient(x, false));
      }
      d_logits[logit] = slope;
    });
  }
}

}  // namespace

void QualityFocalLossCuda(const QualityFocalPointers& in, float scale, double* partial_sums,
                          float* loss, cudaStream_t stream) {
  const char* const name = "QualityFocalLoss";
  const int64_t items = ItemsOf(in);
  const int blocks = BlocksOfSum(items);
  const auto kernel = in.beta == 2.0f ? QualityLossKernel<true> : QualityLossKernel<false>;
  LaunchCuda(name, kernel, blocks, kCudaThreads, stream, in, items, partial_sums);
  FinishSum(name, partial_sums, blocks, scale, in.normalizer, loss, stream);
}

void QualityFocalGradientCuda(const QualityFocalPointers& in, float scale, const float* d_loss,
                              float* d_logits, cudaStream_t stream) {
  const int64_t items = ItemsOf(in);
  const auto kernel = in.beta == 2.0f ? QualityGradientKernel<true> : QualityGradientKernel<false>;
  LaunchCuda("QualityFocalLossGradient", kernel, CudaBlocks(items), kCudaThreads, stream, in, items,
             scale, d_loss, d_logits);
}

}  // namespace detectron_ext
