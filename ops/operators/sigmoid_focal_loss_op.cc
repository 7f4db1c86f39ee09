// SigmoidFocalLoss and its gradient on the CPU, where Detectron has no implementation.
#include <caffe2/core/operator.h>

#include "operators/focal_loss_base.h"
#include "operators/loss_on_cpu.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;

// Inputs X, T, fg_num; output the loss, a scalar.
class SigmoidFocalLossOp final : public SigmoidFocalBase<CPUContext> {
 public:
  using SigmoidFocalBase<CPUContext>::SigmoidFocalBase;

  bool RunOnDevice() override {
    const SigmoidFocalShape shape = CheckedShape();
    const double sum =
        SigmoidFocalSum(shape, Parameters(), Input(0).data<float>(), CheckedLabels(classes_),
                        /*weights=*/nullptr, ThreadPoolFor);
    return WriteLoss(this, scale_ * sum);
  }
};

// Inputs those of SigmoidFocalLoss and, last, the gradient of the loss; output d_X.
class SigmoidFocalLossGradientOp final : public SigmoidFocalBase<CPUContext> {
 public:
  using SigmoidFocalBase<CPUContext>::SigmoidFocalBase;

  bool RunOnDevice() override {
    const SigmoidFocalShape shape = CheckedShape();
    const float factor = scale_ * LossGradient(this);
    SigmoidFocalGradient(shape, Parameters(), Input(0).data<float>(), CheckedLabels(classes_),
                         /*weights=*/nullptr, factor, PredictionGradient(this), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SigmoidFocalLoss, detectron_ext::SigmoidFocalLossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SigmoidFocalLossGradient,
                                    detectron_ext::SigmoidFocalLossGradientOp);

}  // namespace caffe2
