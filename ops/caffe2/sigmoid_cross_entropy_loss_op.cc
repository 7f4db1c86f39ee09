// SigmoidCrossEntropyLoss and its gradient on the CPU, where Detectron has no implementation.
#include <algorithm>
#include <vector>

#include <caffe2/core/operator.h>

#include "caffe2/checks.h"
#include "caffe2/registration.h"
#include "caffe2/threads.h"
#include "kernels/sigmoid_cross_entropy.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class SigmoidCrossEntropyBase : public Operator<CPUContext> {
 public:
  SigmoidCrossEntropyBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        scale_(GetSingleArgument<float>("scale", 1.0f)),
        normalize_(GetSingleArgument<int>("normalize", 1)) {
    CAFFE_ENFORCE(scale_ >= 0, type(), ": scale is ", scale_, ", must be at least 0");
    CAFFE_ENFORCE(
        normalize_ == 0 || normalize_ == 1, type(), ": normalize is ", normalize_,
        ", must be 0 or 1");
  }

 protected:
  void CheckInputs() {
    CAFFE_ENFORCE(
        Input(0).numel() == Input(1).numel(), type(), ": targets of shape ", Input(1).sizes(),
        " must have as many elements as X of shape ", Input(0).sizes());
  }

  // scale, divided by the number of targets that count where the loss is normalised.
  double Factor() {
    if (normalize_ == 0) {
      return scale_;
    }
    const int64_t count = CountTargets(Input(1).data<int32_t>(), Input(1).numel(), ThreadPoolFor);
    return scale_ / std::max<double>(static_cast<double>(count), 1e-5);
  }

 private:
  const float scale_;
  const int normalize_;
};

// Inputs X and targets; output the loss, a scalar.
class SigmoidCrossEntropyLossOp final : public SigmoidCrossEntropyBase {
 public:
  using SigmoidCrossEntropyBase::SigmoidCrossEntropyBase;

  bool RunOnDevice() override {
    CheckInputs();
    auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
    const double sum = SigmoidCrossEntropy(
        Input(0).data<float>(), Input(1).data<int32_t>(), Input(0).numel(), ThreadPoolFor);
    *loss->template mutable_data<float>() = static_cast<float>(Factor() * sum);
    return true;
  }
};

// Inputs X, targets and the gradient of the loss; output dX.
class SigmoidCrossEntropyLossGradientOp final : public SigmoidCrossEntropyBase {
 public:
  using SigmoidCrossEntropyBase::SigmoidCrossEntropyBase;

  bool RunOnDevice() override {
    CheckInputs();
    EnforceOneNumber(type(), "the gradient of the loss", Input(2));
    auto* dx = Output(0, Input(0).sizes(), at::dtype<float>());
    SigmoidCrossEntropyGradient(
        Input(0).data<float>(), Input(1).data<int32_t>(), Input(0).numel(),
        static_cast<float>(Factor() * Input(2).data<float>()[0]),
        dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(
    SigmoidCrossEntropyLoss, detectron_ext::SigmoidCrossEntropyLossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(
    SigmoidCrossEntropyLossGradient, detectron_ext::SigmoidCrossEntropyLossGradientOp);

}  // namespace caffe2
