// SmoothL1Loss and its gradient on the CPU, where Detectron has no implementation.
#include <caffe2/core/operator.h>

#include "operators/box_loss_base.h"
#include "operators/loss_on_cpu.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;

// Inputs Y_hat, Y, alpha_in, alpha_out; output the loss, a scalar.
class SmoothL1LossOp final : public DenseLossBase<CPUContext, SmoothL1> {
 public:
  using DenseLossBase<CPUContext, SmoothL1>::DenseLossBase;

  bool RunOnDevice() override {
    const DenseLossInputs in = CheckedInputs();
    return WriteLoss(this, Normalizer() * DenseLossSum(in, loss_, ThreadPoolFor));
  }
};

// Inputs those of SmoothL1Loss and the gradient of the loss; output d_Y_hat.
class SmoothL1LossGradientOp final : public DenseLossBase<CPUContext, SmoothL1> {
 public:
  using DenseLossBase<CPUContext, SmoothL1>::DenseLossBase;

  bool RunOnDevice() override {
    const DenseLossInputs in = CheckedInputs();
    const auto factor = static_cast<float>(Normalizer() * LossGradient(this));
    DenseLossGradient(in, loss_, factor, PredictionGradient(this), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SmoothL1Loss, detectron_ext::SmoothL1LossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SmoothL1LossGradient, detectron_ext::SmoothL1LossGradientOp);

}  // namespace caffe2
