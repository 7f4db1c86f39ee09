// Quality focal loss on CUDA. Pointers are to device memory.
#pragma once

#include <cstdint>

#include "kernels/cuda_launch.h"

namespace detectron_ext {

// Logits (anchors * classes, positions), labels and quality (anchors, positions); `anchors` counts
// those of all images.
struct QualityFocalPointers {
  int64_t anchors, classes, positions;
  const float* logits;
  const int32_t* labels;
  const float* quality;
  const float* normalizer;  // one number
  float beta, positive_weight, negative_weight;
};

// *loss = scale / max(*normalizer, 1) * the sum of the losses of all logits. `partial_sums` must
// hold kLossPartialSums doubles (kernels/losses_cuda.h).
void QualityFocalLossCuda(const QualityFocalPointers& in, float scale, double* partial_sums,
                          float* loss, cudaStream_t stream);

// d_logits = *d_loss * the derivative of that loss.
void QualityFocalGradientCuda(const QualityFocalPointers& in, float scale, const float* d_loss,
                              float* d_logits, cudaStream_t stream);

}  // namespace detectron_ext
