#include "operators/quality_focal_loss_op.h"

#include "kernels/quality_focal_loss.h"
#include "operators/gradient_definition.h"
#include "operators/loss_on_cpu.h"
#include "operators/schema_helpers.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Tensor;

// Returns Q. Enforces that the quality of every positive is from 0 to 1, or NaN.
const float* CheckedQuality(const std::string& type, const Tensor& quality, const int32_t* labels) {
  const float* const q = quality.data<float>();
  for (int64_t i = 0; i < quality.numel(); ++i) {
    CAFFE_ENFORCE(labels[i] <= 0 || !(q[i] < 0.0f || q[i] > 1.0f), type, ": Q of shape ",
                  quality.sizes(), " holds ", q[i],
                  " at a foreground anchor; a quality must be from 0 to 1");
  }
  return q;
}

}  // namespace

template <>
bool QualityFocalLossOp<CPUContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  const int32_t* const labels = CheckedLabels(classes_);
  const float count = ForegroundCount(Input(2));
  const QualityFocalInputs in{Input(0).data<float>(),
                              labels,
                              CheckedQuality(type(), Input(3), labels),
                              beta_,
                              positive_weight_ / count,
                              negative_weight_ / count};
  return WriteLoss(this, scale_ * QualityFocalSum(shape, in, ThreadPoolFor));
}

template <>
bool QualityFocalLossGradientOp<CPUContext>::RunOnDevice() {
  const SigmoidFocalShape shape = CheckedShape();
  const int32_t* const labels = CheckedLabels(classes_);
  const float count = ForegroundCount(Input(2));
  const QualityFocalInputs in{Input(0).data<float>(),
                              labels,
                              CheckedQuality(type(), Input(3), labels),
                              beta_,
                              positive_weight_ / count,
                              negative_weight_ / count};
  const float factor = scale_ * LossGradient(this);
  QualityFocalGradient(shape, in, factor, PredictionGradient(this), ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(QualityFocalLoss, detectron_ext::QualityFocalLossOp<CPUContext>);
REGISTER_CPU_OPERATOR(QualityFocalLossGradient,
                      detectron_ext::QualityFocalLossGradientOp<CPUContext>);

namespace {

// Describes what the loss and its gradient share.
OpSchema& DescribeQualityInputs(OpSchema& schema) {
  return schema
      .Arg("beta",
           "(float, at least 0, default 2.0) exponent of the distance between probability and "
           "quality.")
      .Arg("positive_weight",
           "(float, at least 0, default 1.0) weight of the logit of an anchor's own class.")
      .Arg("negative_weight", "(float, at least 0, default 1.0) weight of all other logits.")
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
             "labels and takes others for background.")
      .Input(2, "fg_num",
             "Number of foreground anchors over all pyramid levels: float32, one element.")
      .Input(3, "Q",
             "Qualities of the anchors, (N, A, H, W) float32, from 0 to 1 where the label is a "
             "class. Other elements are not used. On the CPU other qualities of a class are an "
             "error, except NaN, which makes the loss NaN. CUDA does not check them.");
}

}  // namespace

OPERATOR_SCHEMA(QualityFocalLoss)
    .FillUsing(detectron_ext::DescribeLoss)
    .FillUsing(DescribeQualityInputs)
    .SetDoc(R"DOC(
Quality focal loss (Generalized Focal Loss, arXiv:2006.04388, equation 5). The target of a positive is
its quality, usually the IoU of the predicted box with the object:

  loss = scale / max(fg_num, 1) * sum over anchors and classes of term

With p the sigmoid of a logit and q the quality of its anchor, its term is

  -positive_weight * |q - p|^beta * (q * ln(p) + (1 - q) * ln(1 - p))
                                             if its class is the label of its anchor,
  0                                          if the label of its anchor is -1,
  -negative_weight * p^beta * ln(1 - p)      otherwise.

If X has no elements, the loss is 0.
)DOC");

OPERATOR_SCHEMA(QualityFocalLossGradient)
    .FillUsing(detectron_ext::DescribeLossGradient)
    .FillUsing(DescribeQualityInputs)
    .SetDoc(R"DOC(
Gradient of QualityFocalLoss for X: d_loss times the derivative of the loss. It is 0 at ignored anchors,
and where the probability of a positive is its quality. The arguments must be those of
QualityFocalLoss. If X has no elements, neither has d_X.
)DOC")
    .Output(0, "d_X", "Gradient of X, float32, shaped as X. The other inputs have no gradient.");

REGISTER_GRADIENT(QualityFocalLoss, detectron_ext::LossGradientMaker);

}  // namespace caffe2
