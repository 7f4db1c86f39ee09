#include "operators/weighted_sigmoid_focal_loss_op.h"

#include "operators/checks.h"
#include "operators/cuda_helpers.h"

namespace detectron_ext {

using caffe2::CUDAContext;

template <>
bool WeightedSigmoidFocalLossOp<CUDAContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  const FocalPointers in{shape.anchors,
                         shape.classes,
                         shape.positions,
                         Input(0).data<float>(),
                         Input(1).data<int32_t>(),
                         Input(3).data<float>(),
                         Input(2).data<float>(),
                         gamma_,
                         alpha_};
  auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
  WeightedSigmoidFocalLossCuda(in, scale_, PartialSums(&scratch_), loss->mutable_data<float>(),
                               context_.cuda_stream());
  return true;
}

template <>
bool WeightedSigmoidFocalLossGradientOp<CUDAContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  EnforceOneNumber(type(), "d_loss", Input(4));
  const FocalPointers in{shape.anchors,
                         shape.classes,
                         shape.positions,
                         Input(0).data<float>(),
                         Input(1).data<int32_t>(),
                         Input(3).data<float>(),
                         Input(2).data<float>(),
                         gamma_,
                         alpha_};
  auto* d_logits = Output(0, Input(0).sizes(), at::dtype<float>());
  WeightedSigmoidFocalGradientCuda(in, scale_, Input(4).data<float>(),
                                   d_logits->mutable_data<float>(), context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CUDA_OPERATOR(WeightedSigmoidFocalLoss,
                       detectron_ext::WeightedSigmoidFocalLossOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(WeightedSigmoidFocalLossGradient,
                       detectron_ext::WeightedSigmoidFocalLossGradientOp<CUDAContext>);

}  // namespace caffe2
