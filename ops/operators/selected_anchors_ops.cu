#include "operators/selected_anchors_ops.h"

#include <caffe2/core/context_gpu.h>

#include "kernels/selected_anchors_cuda.h"
#include "operators/cuda_helpers.h"
#include "operators/places_on_cuda.h"

namespace detectron_ext {

using caffe2::CUDAContext;

template <>
bool SelectBoxIouOp<CUDAContext>::RunOnDevice() {
  SelectionPointers in{};
  in.rows = CheckSelectedRows(type(), Input(0), Input(1), Input(2));
  in.map = {Input(0).dim(0), Input(0).dim(1), Input(0).dim(2), Input(0).dim(3)};
  in.prediction = Input(0).data<float>();
  float* const iou = Output(0, {in.rows}, at::dtype<float>())->mutable_data<float>();
  if (in.rows > 0) {
    in.target = Input(1).data<float>();
    in.places =
        EnforceInsideOnCuda(type(), Input(2), in.map, "Y_hat", Input(0), &scratch_, &context_);
    SelectBoxIouCuda(in, max_log_scale_, iou, context_.cuda_stream());
  }
  return true;
}

template <>
bool SelectSigmoidFocalLossOp<CUDAContext>::RunOnDevice() {
  const SelectFocalInputs in = CheckedInputs();
  float* const loss = Output(0, {in.rows}, at::dtype<float>())->mutable_data<float>();
  float* const p = Output(1, {in.rows}, at::dtype<float>())->mutable_data<float>();
  if (in.rows > 0) {
    EnforceInsideOnCuda(type(), Input(2), in.shape.Deltas(), "T", Input(1), &scratch_, &context_);
    SelectFocalLossCuda(in, loss, p, context_.cuda_stream());
  }
  return true;
}

template <>
bool ScaleAnchorsOp<CUDAContext>::RunOnDevice() {
  const AnchorMapShape shape = CheckedShape();
  const int64_t rows = Input(2).numel() / 4;
  const float* places = nullptr;
  const float* factors = nullptr;
  if (rows > 0) {
    places =
        EnforceInsideOnCuda(type(), Input(2), shape.Deltas(), "W", Input(0), &scratch_, &context_);
    factors = Input(1).data<float>();
  }
  float* const scaled = Output(0, Input(0).sizes(), at::dtype<float>())->mutable_data<float>();
  ScaleAnchorsCuda(shape, Input(0).data<float>(), rows, factors, places, scaled,
                   context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CUDA_OPERATOR(SelectBoxIou, detectron_ext::SelectBoxIouOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(SelectSigmoidFocalLoss,
                       detectron_ext::SelectSigmoidFocalLossOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(ScaleAnchors, detectron_ext::ScaleAnchorsOp<CUDAContext>);

}  // namespace caffe2
