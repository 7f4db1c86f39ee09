// SigmoidFocalLoss and its gradient on the CPU, where Detectron has no implementation.
#include <algorithm>
#include <vector>

#include <caffe2/core/operator.h>

#include "caffe2/checks.h"
#include "caffe2/registration.h"
#include "caffe2/threads.h"
#include "kernels/sigmoid_focal_loss.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class FocalLossBase : public Operator<CPUContext> {
 public:
  FocalLossBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        scale_(GetSingleArgument<float>("scale", 1.0f)),
        num_classes_(GetSingleArgument<int>("num_classes", 80)),
        gamma_(GetSingleArgument<float>("gamma", 1.0f)),
        alpha_(GetSingleArgument<float>("alpha", 0.25f)) {
    CAFFE_ENFORCE(scale_ >= 0, type(), ": scale is ", scale_, ", must be at least 0");
    CAFFE_ENFORCE(gamma_ >= 0, type(), ": gamma is ", gamma_, ", must be at least 0");
    CAFFE_ENFORCE(num_classes_ > 0, type(), ": num_classes is ", num_classes_);
  }

 protected:
  SigmoidFocalShape Shape() {
    const Tensor& x = Input(0);
    const Tensor& targets = Input(1);
    CAFFE_ENFORCE(
        x.dim() == 4 && targets.dim() == 4 && x.dim(0) == targets.dim(0) &&
            x.dim(1) == targets.dim(1) * num_classes_ && x.dim(2) == targets.dim(2) &&
            x.dim(3) == targets.dim(3),
        type(), ": targets of shape ", targets.sizes(), " do not fit logits of shape ", x.sizes(),
        " with ", num_classes_, " classes");
    EnforceOneNumber(type(), "fg_num", Input(2));
    return {x.dim(0) * targets.dim(1), num_classes_, x.dim(2) * x.dim(3)};
  }

  SigmoidFocalParameters Parameters() {
    const float normalizer = std::max(Input(2).data<float>()[0], 1.0f);
    return {gamma_, alpha_ / normalizer, (1.0f - alpha_) / normalizer};
  }

  const float scale_;

 private:
  const int num_classes_;
  const float gamma_;
  const float alpha_;
};

// Inputs X, targets, fg_num; output the loss, a scalar.
class SigmoidFocalLossOp final : public FocalLossBase {
 public:
  using FocalLossBase::FocalLossBase;

  bool RunOnDevice() override {
    const SigmoidFocalShape shape = Shape();
    auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
    const double sum = SigmoidFocalSum(
        shape, Parameters(), Input(0).data<float>(), Input(1).data<int32_t>(), nullptr,
        ThreadPoolFor);
    *loss->template mutable_data<float>() = static_cast<float>(scale_ * sum);
    return true;
  }
};

// Inputs those of SigmoidFocalLoss and, last, the gradient of the loss; output dX.
class SigmoidFocalLossGradientOp final : public FocalLossBase {
 public:
  using FocalLossBase::FocalLossBase;

  bool RunOnDevice() override {
    const SigmoidFocalShape shape = Shape();
    const Tensor& d_loss = Input(InputSize() - 1);
    EnforceOneNumber(type(), "the gradient of the loss", d_loss);
    auto* dx = Output(0, Input(0).sizes(), at::dtype<float>());
    SigmoidFocalGradient(
        shape, Parameters(), Input(0).data<float>(), Input(1).data<int32_t>(), nullptr,
        scale_ * d_loss.data<float>()[0], dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SigmoidFocalLoss, detectron_ext::SigmoidFocalLossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(
    SigmoidFocalLossGradient, detectron_ext::SigmoidFocalLossGradientOp);

}  // namespace caffe2
