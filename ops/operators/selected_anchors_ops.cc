#include "operators/selected_anchors_ops.h"

#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;

// Enforces that every row of L lies inside the map of deltas.
void EnforceInside(const std::string& type, const caffe2::Tensor& places, const MapShape& map,
                   const char* name, const caffe2::Tensor& tensor) {
  const int64_t rows = places.numel() / 4;
  const int64_t row = rows ? FirstPlaceOutside(places.data<float>(), rows, map) : -1;
  if (row >= 0) {
    FailOutside(type, name, tensor, places, row, places.data<float>() + 4 * row);
  }
}

}  // namespace

template <>
bool SelectBoxIouOp<CPUContext>::RunOnDevice() {
  SelectLossInputs in{};
  in.rows = CheckSelectedRows(type(), Input(0), Input(1), Input(2));
  in.map = {Input(0).dim(0), Input(0).dim(1), Input(0).dim(2), Input(0).dim(3)};
  in.y_hat = Input(0).data<float>();
  float* const iou = Output(0, {in.rows}, at::dtype<float>())->mutable_data<float>();
  if (in.rows > 0) {
    EnforceInside(type(), Input(2), in.map, "Y_hat", Input(0));
    in.y = Input(1).data<float>();
    in.places = Input(2).data<float>();
    SelectBoxIou(in, max_log_scale_, iou);
  }
  return true;
}

template <>
bool SelectSigmoidFocalLossOp<CPUContext>::RunOnDevice() {
  const SelectFocalInputs in = CheckedInputs();
  EnforceInside(type(), Input(2), in.shape.Deltas(), "T", Input(1));
  float* const loss = Output(0, {in.rows}, at::dtype<float>())->mutable_data<float>();
  float* const p = Output(1, {in.rows}, at::dtype<float>())->mutable_data<float>();
  for (int64_t i = 0; i < in.rows; ++i) {
    const AnchorFocal focal = SelectedFocal(in, i);
    loss[i] = focal.loss;
    p[i] = focal.p;
  }
  return true;
}

template <>
bool ScaleAnchorsOp<CPUContext>::RunOnDevice() {
  const AnchorMapShape shape = CheckedShape();
  EnforceInside(type(), Input(2), shape.Deltas(), "W", Input(0));
  const int64_t rows = Input(2).numel() / 4;
  float* const scaled = Output(0, Input(0).sizes(), at::dtype<float>())->mutable_data<float>();
  ScaleAnchors(shape, Input(0).data<float>(), rows, rows ? Input(1).data<float>() : nullptr,
               rows ? Input(2).data<float>() : nullptr, scaled, ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(SelectBoxIou, detectron_ext::SelectBoxIouOp<CPUContext>);
REGISTER_CPU_OPERATOR(SelectSigmoidFocalLoss, detectron_ext::SelectSigmoidFocalLossOp<CPUContext>);
REGISTER_CPU_OPERATOR(ScaleAnchors, detectron_ext::ScaleAnchorsOp<CPUContext>);

namespace {

constexpr char kChannels[] =
    "(int, a multiple of 4, default 4) number of channels that an anchor has in the column c of L: "
    "4, or 4 times the number of classes if each class has its own deltas.";
constexpr char kPlaces[] =
    "Locations of the anchors, (M, 4) float32: rows (n, c, y, x) of indices, whose fractions are "
    "dropped; c / channels is the number of the anchor. A row outside the map is an error.";

// Infers outputs with a number for each row of the last input, L.
template <int outputs>
std::vector<TensorShape> InferRows(const OperatorDef&, const std::vector<TensorShape>& inputs) {
  TensorShape rows = inputs.back();
  if (rows.dims_size() > 1) {
    rows.mutable_dims()->Truncate(1);
  }
  return std::vector<TensorShape>(outputs, rows);
}

}  // namespace

OPERATOR_SCHEMA(SelectBoxIou)
    .NumInputs(3)
    .NumOutputs(1)
    .TensorInferenceFunction(InferRows<1>)
    .SetDoc(R"DOC(
IoU of predicted boxes with their targets at M places of a map. Both boxes are deltas of the same
anchor, which the IoU does not depend on. Predicted logarithms of sizes are limited as when boxes
are decoded. The operator has no gradient. If M is 0, U is empty, and Y and L may have any shape
without elements.
)DOC")
    .Arg("max_log_scale",
         "(float, above 0, default ln(1000 / 16)) largest predicted dw and dh: BBOX_XFORM_CLIP.")
    .Input(0, "Y_hat", "Predicted box deltas, (N, A * 4, H, W) float32.")
    .Input(1, "Y", "True box deltas, (M, 4) float32: row m belongs to row m of L.")
    .Input(2, "L",
           "Locations of the predictions, (M, 4) float32: rows (n, c, y, x) of indices, whose "
           "fractions are dropped. A row selects channels c to c + 3 at position (y, x) of image "
           "n. A row that selects anything outside Y_hat is an error.")
    .Output(0, "U", "IoU of each row, (M,) float32 from 0 to 1; NaN if a delta is NaN.");

OPERATOR_SCHEMA(SelectSigmoidFocalLoss)
    .NumInputs(3)
    .NumOutputs(2)
    .TensorInferenceFunction(InferRows<2>)
    .SetDoc(R"DOC(
Sigmoid focal loss of single anchors, at M places of a map: the sum over classes of the terms of
SigmoidFocalLoss, without its division by the number of foreground anchors. The operator has no
gradient. If M is 0, both outputs are empty, and L may have any shape without elements.
)DOC")
    .Arg("gamma", "(float, at least 0, default 2.0) focusing exponent.")
    .Arg("alpha",
         "(float, from 0 to 1, default 0.25) weight of the logit of an anchor's own class.")
    .Arg("num_classes", "(int, at least 1, default 80) number of classes of an anchor.")
    .Arg("channels", kChannels)
    .Input(0, "X", "Logits, (N, A * num_classes, H, W) float32, as in SigmoidFocalLoss.")
    .Input(1, "T", "Labels of the anchors, (N, A, H, W) int32, as in SigmoidFocalLoss.")
    .Input(2, "L", kPlaces)
    .Output(0, "F", "Loss of each row's anchor, (M,) float32; 0 if its label is -1.")
    .Output(1, "P",
            "Probability of the class that is the label of each row's anchor, (M,) float32; 0 if "
            "the label is none.");

OPERATOR_SCHEMA(ScaleAnchors)
    .NumInputs(3)
    .NumOutputs(1)
    .IdenticalTypeAndShapeOfInput(0)
    .SetDoc(R"DOC(
A map of weights with the weights at M places multiplied by factors. If several rows select the same
anchor, all of their factors count. The operator has no gradient. If M is 0, the result is W, and L
may have any shape without elements.
)DOC")
    .Arg("channels", kChannels)
    .Input(0, "W", "Weights of the anchors, (N, A, H, W) float32.")
    .Input(1, "V", "Factors, (M,) float32: number m belongs to row m of L.")
    .Input(2, "L", kPlaces)
    .Output(0, "scaled", "The scaled weights, float32, shaped as W.");

NO_GRADIENT(SelectBoxIou);
NO_GRADIENT(SelectSigmoidFocalLoss);
NO_GRADIENT(ScaleAnchors);

}  // namespace caffe2
