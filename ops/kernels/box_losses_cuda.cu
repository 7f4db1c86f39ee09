// The box losses on CUDA: the formulas for which kernels are compiled, and their C interface
// (kernels/cuda_interface.cu says what holds for all of it).
#include "kernels/balanced_l1.h"
#include "kernels/cuda_interface.h"
#include "kernels/dense_loss_cuda.h"
#include "kernels/select_loss_cuda.h"
#include "kernels/smooth_l1.h"

// Compiles the kernels and launching functions of kernels/losses_cuda.h for a formula.
#define DETECTRON_EXT_BOX_LOSS_ON_CUDA(Formula)                                                   \
  template void detectron_ext::DenseLossCuda(const char*, const Formula&, const DenseLossInputs&, \
                                             float, double*, float*, cudaStream_t);               \
  template void detectron_ext::DenseLossGradientCuda(const char*, const Formula&,                 \
                                                     const DenseLossInputs&, float, const float*, \
                                                     float*, cudaStream_t);                       \
  template void detectron_ext::SelectLossCuda(const char*, const Formula&,                        \
                                              const SelectionPointers&, float, double*, float*,   \
                                              cudaStream_t);                                      \
  template void detectron_ext::SelectLossGradientCuda(                                            \
      const char*, const Formula&, const SelectionPointers&, float, const float*, float*,         \
      int32_t*, cudaStream_t)

DETECTRON_EXT_BOX_LOSS_ON_CUDA(detectron_ext::BalancedL1);
DETECTRON_EXT_BOX_LOSS_ON_CUDA(detectron_ext::SmoothL1);

using namespace detectron_ext;  // NOLINT: what follows is nothing but the C interface

namespace {

BalancedL1 BalancedL1Of(float alpha, float gamma, float beta, int mmdet) {
  return BalancedL1(alpha, gamma, beta,
                    mmdet ? BalancedL1Formula::kMmdet : BalancedL1Formula::kContinuous);
}

// map: n, c, h, w. weights: null for weights of 1.
SelectionPointers SelectionOf(const int64_t* map, const float* prediction, int64_t rows,
                              const float* target, const float* places, const float* normalizer,
                              const float* weights) {
  return {{map[0], map[1], map[2], map[3]}, prediction, rows, target, places, normalizer, weights};
}

}  // namespace

extern "C" {

int detectron_ext_find_outside(const int64_t* map, int64_t rows, const float* places,
                               int* first_outside, cudaStream_t stream) {
  return Guarded([&] {
    FindOutsideCuda("find_outside",
                    SelectionOf(map, nullptr, rows, nullptr, places, nullptr, nullptr),
                    first_outside, stream);
  });
}

// Integers that `scratch` of a select gradient must hold.
int64_t detectron_ext_select_scratch(int64_t rows) { return SelectScratch(rows); }

int detectron_ext_balanced_l1_loss(float alpha, float gamma, float beta, int mmdet, int64_t size,
                                   const float* prediction, const float* target,
                                   const float* inside, const float* outside, float factor,
                                   double* partial_sums, float* loss, cudaStream_t stream) {
  return Guarded([&] {
    DenseLossCuda("BalancedL1Loss", BalancedL1Of(alpha, gamma, beta, mmdet),
                  {size, prediction, target, inside, outside}, factor, partial_sums, loss, stream);
  });
}

int detectron_ext_balanced_l1_gradient(float alpha, float gamma, float beta, int mmdet,
                                       int64_t size, const float* prediction, const float* target,
                                       const float* inside, const float* outside, float factor,
                                       const float* d_loss, float* d_prediction,
                                       cudaStream_t stream) {
  return Guarded([&] {
    DenseLossGradientCuda("BalancedL1LossGradient", BalancedL1Of(alpha, gamma, beta, mmdet),
                          {size, prediction, target, inside, outside}, factor, d_loss, d_prediction,
                          stream);
  });
}

int detectron_ext_select_balanced_l1_loss(float alpha, float gamma, float beta, int mmdet,
                                          const int64_t* map, const float* prediction, int64_t rows,
                                          const float* target, const float* places,
                                          const float* normalizer, const float* weights,
                                          float scale, double* partial_sums, float* loss,
                                          cudaStream_t stream) {
  return Guarded([&] {
    SelectLossCuda("SelectBalancedL1Loss", BalancedL1Of(alpha, gamma, beta, mmdet),
                   SelectionOf(map, prediction, rows, target, places, normalizer, weights), scale,
                   partial_sums, loss, stream);
  });
}

int detectron_ext_select_balanced_l1_gradient(float alpha, float gamma, float beta, int mmdet,
                                              const int64_t* map, const float* prediction,
                                              int64_t rows, const float* target,
                                              const float* places, const float* normalizer,
                                              const float* weights, float scale,
                                              const float* d_loss, float* d_prediction,
                                              int32_t* scratch, cudaStream_t stream) {
  return Guarded([&] {
    SelectLossGradientCuda("SelectBalancedL1LossGradient", BalancedL1Of(alpha, gamma, beta, mmdet),
                           SelectionOf(map, prediction, rows, target, places, normalizer, weights),
                           scale, d_loss, d_prediction, scratch, stream);
  });
}

}  // extern "C"
