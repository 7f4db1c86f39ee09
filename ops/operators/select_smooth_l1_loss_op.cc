// SelectSmoothL1Loss and its gradient on the CPU, where Detectron has no implementation.
#include <caffe2/core/operator.h>

#include "operators/box_loss_base.h"
#include "operators/loss_on_cpu.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;

// Inputs Y_hat, Y, L, S; output the loss, a scalar.
class SelectSmoothL1LossOp final : public SelectLossBase<CPUContext, SmoothL1> {
 public:
  using SelectLossBase<CPUContext, SmoothL1>::SelectLossBase;

  bool RunOnDevice() override {
    const SelectLossInputs in = CheckedInputs();
    return WriteLoss(this, Normalizer() * SelectLossSum(in, loss_));
  }
};

// Inputs those of SelectSmoothL1Loss and the gradient of the loss; output d_Y_hat.
class SelectSmoothL1LossGradientOp final : public SelectLossBase<CPUContext, SmoothL1> {
 public:
  using SelectLossBase<CPUContext, SmoothL1>::SelectLossBase;

  bool RunOnDevice() override {
    const SelectLossInputs in = CheckedInputs();
    const float factor = Normalizer() * LossGradient(this);
    SelectLossGradient(in, loss_, factor, PredictionGradient(this), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SelectSmoothL1Loss, detectron_ext::SelectSmoothL1LossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SelectSmoothL1LossGradient,
                                    detectron_ext::SelectSmoothL1LossGradientOp);

}  // namespace caffe2
