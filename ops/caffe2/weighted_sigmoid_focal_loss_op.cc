#include "caffe2/weighted_sigmoid_focal_loss_op.h"

#include <algorithm>
#include <string>
#include <vector>

#include "caffe2/gradient_definition.h"
#include "caffe2/schema_helpers.h"
#include "caffe2/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;

SigmoidFocalParameters ParametersOf(float gamma, float alpha, const caffe2::Tensor& foreground) {
  const float normalizer = std::max(*foreground.data<float>(), 1.0f);
  return {gamma, alpha / normalizer, (1.0f - alpha) / normalizer};
}

}  // namespace

template <>
bool WeightedSigmoidFocalLossOp<CPUContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
  const double sum = SigmoidFocalSum(
      shape, ParametersOf(gamma_, alpha_, Input(2)), Input(0).data<float>(),
      Input(1).data<int32_t>(), Input(3).data<float>(), ThreadPoolFor);
  *loss->mutable_data<float>() = static_cast<float>(scale_ * sum);
  return true;
}

template <>
bool WeightedSigmoidFocalLossGradientOp<CPUContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  EnforceOneNumber(type(), "d_loss", Input(4));
  auto* d_logits = Output(0, Input(0).sizes(), at::dtype<float>());
  SigmoidFocalGradient(
      shape, ParametersOf(gamma_, alpha_, Input(2)), Input(0).data<float>(),
      Input(1).data<int32_t>(), Input(3).data<float>(), scale_ * *Input(4).data<float>(),
      d_logits->mutable_data<float>(), ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(
    WeightedSigmoidFocalLoss, detectron_ext::WeightedSigmoidFocalLossOp<CPUContext>);
REGISTER_CPU_OPERATOR(
    WeightedSigmoidFocalLossGradient,
    detectron_ext::WeightedSigmoidFocalLossGradientOp<CPUContext>);

namespace {

OpSchema& DocumentFocalArguments(OpSchema& schema) {
  return schema
      .Arg("alpha", "(float, default 0.25) weight of the positive class; 1 - alpha that of the "
                    "others.")
      .Arg("gamma", "(float >= 0, default 1.0) focusing exponent.")
      .Arg("num_classes", "(int, default 80) classes without the background.")
      .Arg("scale", "(float >= 0, default 1.0) factor of the loss.");
}

}  // namespace

OPERATOR_SCHEMA(WeightedSigmoidFocalLoss)
    .NumInputs(4)
    .NumOutputs(1)
    .TensorInferenceFunction(detectron_ext::InferScalar)
    .FillUsing(DocumentFocalArguments)
    .SetDoc(R"DOC(
SigmoidFocalLoss with a weight for every anchor. With p = sigmoid(x), y the label of a logit's
anchor and d its class, counted from 0, each logit costs its anchor's weight times

  -alpha (1 - p)^gamma ln(p)             if y = d + 1,
  0                                      if y = -1,
  -(1 - alpha) p^gamma ln(1 - p)         else,

and the loss is scale / max(fg_num, 1) times the sum. With all weights 1 it is SigmoidFocalLoss.
See https://arxiv.org/abs/1708.02002.
)DOC")
    .Input(0, "X", "Logits, (N, A * num_classes, H, W), the classes of an anchor side by side.")
    .Input(1, "T", "Labels, int32, (N, A, H, W): 0 background, 1 to num_classes, -1 ignored.")
    .Input(2, "fg_num", "Number of foreground anchors, one number.")
    .Input(3, "W", "Weights of the anchors, of the shape of T.")
    .Output(0, "loss", "Scalar.");

OPERATOR_SCHEMA(WeightedSigmoidFocalLossGradient)
    .NumInputs(5)
    .NumOutputs(1)
    .IdenticalTypeAndShapeOfInput(0)
    .FillUsing(DocumentFocalArguments)
    .SetDoc("Gradient of WeightedSigmoidFocalLoss for its logits.")
    .Input(0, "X", "See WeightedSigmoidFocalLoss.")
    .Input(1, "T", "See WeightedSigmoidFocalLoss.")
    .Input(2, "fg_num", "See WeightedSigmoidFocalLoss.")
    .Input(3, "W", "See WeightedSigmoidFocalLoss.")
    .Input(4, "d_loss", "Gradient of the loss, one number.")
    .Output(0, "d_X", "Gradient of X, of its shape.");

namespace {

class GetWeightedSigmoidFocalLossGradient : public GradientMakerBase {
  using GradientMakerBase::GradientMakerBase;
  std::vector<OperatorDef> GetGradientDefs() override {
    return detectron_ext::GradientDefinition(
        "WeightedSigmoidFocalLossGradient",
        std::vector<std::string>{I(0), I(1), I(2), I(3), GO(0)},
        std::vector<std::string>{GI(0)});
  }
};

}  // namespace

REGISTER_GRADIENT(WeightedSigmoidFocalLoss, GetWeightedSigmoidFocalLossGradient);

}  // namespace caffe2
