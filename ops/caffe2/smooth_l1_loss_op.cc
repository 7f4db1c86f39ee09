// SmoothL1Loss and its gradient on the CPU, where Detectron has no implementation.
#include <algorithm>
#include <vector>

#include <caffe2/core/operator.h>

#include "caffe2/checks.h"
#include "caffe2/registration.h"
#include "caffe2/threads.h"
#include "kernels/dense_loss.h"
#include "kernels/smooth_l1.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class SmoothL1Base : public Operator<CPUContext> {
 public:
  SmoothL1Base(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        beta_(GetSingleArgument<float>("beta", 1.0f)),
        scale_(GetSingleArgument<float>("scale", 1.0f)) {
    CAFFE_ENFORCE(beta_ > 0, type(), ": beta is ", beta_, ", must be above 0");
    CAFFE_ENFORCE(scale_ >= 0, type(), ": scale is ", scale_, ", must be at least 0");
  }

 protected:
  // Shapes may differ as long as the rows and the elements are as many.
  DenseLossInputs Inputs() {
    const Tensor& y_hat = Input(0);
    const Tensor& y = Input(1);
    CAFFE_ENFORCE(
        y_hat.dim() > 0 && y.dim() > 0 && y_hat.dim(0) == y.dim(0), type(), ": Y_hat of shape ",
        y_hat.sizes(), " and Y of shape ", y.sizes(), " must have as many rows");
    constexpr const char* kNames[] = {"Y_hat", "Y", "alpha_in", "alpha_out"};
    for (int i = 1; i < 4; ++i) {
      CAFFE_ENFORCE(
          Input(i).numel() == y_hat.numel(), type(), ": ", kNames[i], " of shape ",
          Input(i).sizes(), " must have as many elements as Y_hat of shape ", y_hat.sizes());
    }
    return {
        y_hat.numel(), y_hat.data<float>(), y.data<float>(), Input(2).data<float>(),
        Input(3).data<float>()};
  }

  // scale / N; without rows there is nothing to divide.
  float Factor() { return scale_ / std::max<int64_t>(Input(1).dim(0), 1); }

  const float beta_;

 private:
  const float scale_;
};

// Inputs Y_hat, Y, alpha_in, alpha_out; output the loss, a scalar.
class SmoothL1LossOp final : public SmoothL1Base {
 public:
  using SmoothL1Base::SmoothL1Base;

  bool RunOnDevice() override {
    const DenseLossInputs in = Inputs();
    auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
    const double sum = DenseLossSum(in, SmoothL1Penalty{beta_}, ThreadPoolFor);
    *loss->template mutable_data<float>() = static_cast<float>(Factor() * sum);
    return true;
  }
};

// Inputs those of SmoothL1Loss and the gradient of the loss; output dY_hat.
class SmoothL1LossGradientOp final : public SmoothL1Base {
 public:
  using SmoothL1Base::SmoothL1Base;

  bool RunOnDevice() override {
    const DenseLossInputs in = Inputs();
    EnforceOneNumber(type(), "the gradient of the loss", Input(4));
    auto* gradient = Output(0, Input(0).sizes(), at::dtype<float>());
    DenseLossGradient(
        in, SmoothL1Slope{beta_}, Factor() * Input(4).data<float>()[0],
        gradient->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SmoothL1Loss, detectron_ext::SmoothL1LossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SmoothL1LossGradient, detectron_ext::SmoothL1LossGradientOp);

}  // namespace caffe2
