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

// Describes what the loss and its gradient share.
OpSchema& DescribeFocalInputs(OpSchema& schema) {
  return schema
      .Arg("alpha",
           "(float, from 0 to 1, default 0.25) weight of the logit of an anchor's own class. The "
           "weight of all other logits is 1 - alpha.")
      .Arg("gamma",
           "(float, at least 0, default 1.0) focusing exponent. The default is that of Detectron's "
           "SigmoidFocalLoss; detectron_ext.ops.weighted_sigmoid_focal_loss passes 2.0 by default.")
      .Arg("num_classes",
           "(int, at least 1, default 80) number of classes of an anchor, without the background.")
      .Arg("scale", "(float, at least 0, default 1.0) factor of the loss.")
      .Input(0, "X",
             "Logits, (N, A * num_classes, H, W) float32 for A anchors at each position. Channel "
             "a * num_classes + d belongs to class d + 1 of anchor a. The only input with a "
             "gradient.")
      .Input(1, "T",
             "Labels of the anchors, (N, A, H, W) int32: 0 for background, 1 to num_classes for a "
             "class, -1 for ignored. On the CPU other labels are an error. CUDA does not check "
             "labels and takes others for background, as Detectron's kernels do.")
      .Input(2, "fg_num",
             "Number of foreground anchors over all pyramid levels: float32, one element.")
      .Input(3, "W", "Weights of the anchors, (N, A, H, W) float32.");
}

}  // namespace

OPERATOR_SCHEMA(WeightedSigmoidFocalLoss)
    .FillUsing(detectron_ext::DescribeLoss)
    .FillUsing(DescribeFocalInputs)
    .SetDoc(R"DOC(
Sigmoid focal loss (Focal Loss for Dense Object Detection, arXiv:1708.02002) with a weight for every
anchor:

  loss = scale / max(fg_num, 1) * sum over anchors and classes of weight * term

With p the sigmoid of a logit, its term is

  -alpha * (1 - p)^gamma * ln(p)            if its class is the label of its anchor,
  0                                         if the label of its anchor is -1,
  -(1 - alpha) * p^gamma * ln(1 - p)        otherwise.

If all weights are 1, it is Detectron's SigmoidFocalLoss. If X has no elements, the loss is 0.
)DOC");

OPERATOR_SCHEMA(WeightedSigmoidFocalLossGradient)
    .FillUsing(detectron_ext::DescribeLossGradient)
    .FillUsing(DescribeFocalInputs)
    .SetDoc(R"DOC(
Gradient of WeightedSigmoidFocalLoss for X: d_loss times the derivative of the loss. It is 0 at
ignored anchors. The arguments must be those of WeightedSigmoidFocalLoss. If X has no elements,
neither has d_X.
)DOC")
    .Output(0, "d_X", "Gradient of X, float32, shaped as X. The other inputs have no gradient.");

REGISTER_GRADIENT(WeightedSigmoidFocalLoss, detectron_ext::LossGradientMaker);

}  // namespace caffe2
