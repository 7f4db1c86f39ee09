#include "operators/quality_focal_loss_op.h"

#include "kernels/quality_focal_cuda.h"
#include "operators/checks.h"
#include "operators/cuda_helpers.h"

namespace detectron_ext {

using caffe2::CUDAContext;

template <>
bool QualityFocalLossOp<CUDAContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  const QualityFocalPointers in{shape.anchors,
                                shape.classes,
                                shape.positions,
                                Input(0).data<float>(),
                                Input(1).data<int32_t>(),
                                Input(3).data<float>(),
                                Input(2).data<float>(),
                                beta_,
                                positive_weight_,
                                negative_weight_};
  auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
  QualityFocalLossCuda(in, scale_, PartialSums(&scratch_), loss->mutable_data<float>(),
                       context_.cuda_stream());
  return true;
}

template <>
bool QualityFocalLossGradientOp<CUDAContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  EnforceOneNumber(type(), "d_loss", Input(4));
  const QualityFocalPointers in{shape.anchors,
                                shape.classes,
                                shape.positions,
                                Input(0).data<float>(),
                                Input(1).data<int32_t>(),
                                Input(3).data<float>(),
                                Input(2).data<float>(),
                                beta_,
                                positive_weight_,
                                negative_weight_};
  auto* d_logits = Output(0, Input(0).sizes(), at::dtype<float>());
  QualityFocalGradientCuda(in, scale_, Input(4).data<float>(), d_logits->mutable_data<float>(),
                           context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CUDA_OPERATOR(QualityFocalLoss, detectron_ext::QualityFocalLossOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(QualityFocalLossGradient,
                       detectron_ext::QualityFocalLossGradientOp<CUDAContext>);

}  // namespace caffe2
