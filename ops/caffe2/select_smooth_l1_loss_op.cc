// SelectSmoothL1Loss and its gradient on the CPU, where Detectron has no implementation.
#include <vector>

#include <caffe2/core/operator.h>

#include "caffe2/checks.h"
#include "caffe2/registration.h"
#include "caffe2/select_inputs.h"
#include "caffe2/threads.h"
#include "kernels/select_loss.h"
#include "kernels/smooth_l1.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Workspace;

class SelectSmoothL1Base : public Operator<CPUContext> {
 public:
  SelectSmoothL1Base(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        beta_(GetSingleArgument<float>("beta", 1.0f)),
        scale_(GetSingleArgument<float>("scale", 1.0f)) {
    CAFFE_ENFORCE(beta_ > 0, type(), ": beta is ", beta_, ", must be above 0");
    CAFFE_ENFORCE(scale_ >= 0, type(), ": scale is ", scale_, ", must be at least 0");
  }

 protected:
  SelectInputs Inputs() { return CheckSelectInputs(type(), Input(0), Input(1), Input(2), Input(3)); }

  const float beta_;
  const float scale_;
};

// Inputs Y_hat, Y, L, S; output the loss, a scalar.
class SelectSmoothL1LossOp final : public SelectSmoothL1Base {
 public:
  using SelectSmoothL1Base::SelectSmoothL1Base;

  bool RunOnDevice() override {
    const SelectInputs in = Inputs();
    auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
    const double sum =
        SelectLoss(in.y_hat, in.map, in.y, in.places, in.rows, SmoothL1Penalty{beta_});
    *loss->template mutable_data<float>() = static_cast<float>(scale_ / in.normalizer * sum);
    return true;
  }
};

// Inputs those of SelectSmoothL1Loss and the gradient of the loss; output dY_hat.
class SelectSmoothL1LossGradientOp final : public SelectSmoothL1Base {
 public:
  using SelectSmoothL1Base::SelectSmoothL1Base;

  bool RunOnDevice() override {
    const SelectInputs in = Inputs();
    EnforceOneNumber(type(), "the gradient of the loss", Input(4));
    auto* gradient = Output(0, Input(0).sizes(), at::dtype<float>());
    SelectLossGradient(
        in.y_hat, in.map, in.y, in.places, in.rows,
        scale_ * Input(4).data<float>()[0] / in.normalizer, SmoothL1Slope{beta_},
        gradient->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SelectSmoothL1Loss, detectron_ext::SelectSmoothL1LossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(
    SelectSmoothL1LossGradient, detectron_ext::SelectSmoothL1LossGradientOp);

}  // namespace caffe2
