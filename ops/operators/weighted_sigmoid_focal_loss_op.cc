#include "operators/weighted_sigmoid_focal_loss_op.h"

#include "operators/gradient_definition.h"
#include "operators/loss_on_cpu.h"
#include "operators/schema_helpers.h"
#include "operators/threads.h"

namespace detectron_ext {

using caffe2::CPUContext;

template <>
bool WeightedSigmoidFocalLossOp<CPUContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  const double sum =
      SigmoidFocalSum(shape, Parameters(), Input(0).data<float>(), CheckedLabels(classes_),
                      Input(3).data<float>(), ThreadPoolFor);
  return WriteLoss(this, scale_ * sum);
}

template <>
bool WeightedSigmoidFocalLossGradientOp<CPUContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  const float factor = scale_ * LossGradient(this);
  SigmoidFocalGradient(shape, Parameters(), Input(0).data<float>(), CheckedLabels(classes_),
                       Input(3).data<float>(), factor, PredictionGradient(this), ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(WeightedSigmoidFocalLoss,
                      detectron_ext::WeightedSigmoidFocalLossOp<CPUContext>);
REGISTER_CPU_OPERATOR(WeightedSigmoidFocalLossGradient,
                      detectron_ext::WeightedSigmoidFocalLossGradientOp<CPUContext>);

namespace {

OpSchema& DocumentFocalArguments(OpSchema& schema) {
  return schema
      .Arg("alpha",
           "(float in [0, 1], default 0.25) weight of the positive class; 1 - alpha that "
           "of the others.")
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
    .Input(1, "T",
           "Labels, int32, (N, A, H, W): 0 background, 1 to num_classes, -1 ignored. "
           "Other labels are an error on the CPU. CUDA does not check them and takes them "
           "for background, as Detectron's kernels do.")
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

REGISTER_GRADIENT(WeightedSigmoidFocalLoss, detectron_ext::LossGradientMaker);

}  // namespace caffe2
