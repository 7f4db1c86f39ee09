#include "operators/balanced_l1_loss_op.h"

#include "operators/checks.h"
#include "operators/cuda_helpers.h"

namespace detectron_ext {

using caffe2::CUDAContext;

template <>
bool BalancedL1LossOp<CUDAContext>::RunOnDevice() {
  const DenseLossInputs in = CheckedInputs();
  auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
  BalancedL1LossCuda(loss_, in, static_cast<float>(Normalizer()), PartialSums(&scratch_),
                     loss->mutable_data<float>(), context_.cuda_stream());
  return true;
}

template <>
bool BalancedL1LossGradientOp<CUDAContext>::RunOnDevice() {
  const DenseLossInputs in = CheckedInputs();
  EnforceOneNumber(type(), "d_loss", Input(4));
  auto* d_prediction = Output(0, Input(0).sizes(), at::dtype<float>());
  BalancedL1GradientCuda(loss_, in, static_cast<float>(Normalizer()), Input(4).data<float>(),
                         d_prediction->mutable_data<float>(), context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CUDA_OPERATOR(BalancedL1Loss, detectron_ext::BalancedL1LossOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(BalancedL1LossGradient,
                       detectron_ext::BalancedL1LossGradientOp<CUDAContext>);

}  // namespace caffe2
