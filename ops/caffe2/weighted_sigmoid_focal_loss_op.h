// WeightedSigmoidFocalLoss: sigmoid focal loss with a weight for every anchor.
#pragma once

#include <utility>

#include <caffe2/core/operator.h>

#include "caffe2/checks.h"
#include "kernels/sigmoid_focal_loss.h"

namespace detectron_ext {

// What the loss and its gradient share: arguments and shape checks.
template <class Context>
class WeightedSigmoidFocalBase : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit WeightedSigmoidFocalBase(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        scale_(this->template GetSingleArgument<float>("scale", 1.0f)),
        gamma_(this->template GetSingleArgument<float>("gamma", 1.0f)),
        alpha_(this->template GetSingleArgument<float>("alpha", 0.25f)),
        classes_(this->template GetSingleArgument<int>("num_classes", 80)) {
    CAFFE_ENFORCE(scale_ >= 0, this->type(), ": scale is ", scale_, ", must be at least 0");
    CAFFE_ENFORCE(gamma_ >= 0, this->type(), ": gamma is ", gamma_, ", must be at least 0");
    CAFFE_ENFORCE(
        classes_ > 0, this->type(), ": num_classes is ", classes_, ", must be above 0");
  }

 protected:
  // Enforces the shapes of X, T, fg_num and W.
  SigmoidFocalShape CheckedShape() {
    const caffe2::Tensor& x = this->Input(0);
    const caffe2::Tensor& t = this->Input(1);
    const caffe2::Tensor& weights = this->Input(3);
    CAFFE_ENFORCE(
        x.dim() == 4 && t.dim() == 4 && t.dim(0) == x.dim(0) &&
            t.dim(1) * classes_ == x.dim(1) && t.dim(2) == x.dim(2) && t.dim(3) == x.dim(3),
        this->type(), ": T of shape ", t.sizes(), " must be (N, A, H, W) for X of shape ",
        x.sizes(), ", (N, A * num_classes, H, W) with num_classes ", classes_);
    CAFFE_ENFORCE(
        weights.sizes() == t.sizes(), this->type(), ": W of shape ", weights.sizes(),
        " must have the shape of T, ", t.sizes());
    EnforceOneNumber(this->type(), "fg_num", this->Input(2));
    return {t.dim(0) * t.dim(1), classes_, t.dim(2) * t.dim(3)};
  }

  const float scale_;
  const float gamma_;
  const float alpha_;
  const int64_t classes_;
};

template <class Context>
class WeightedSigmoidFocalLossOp final : public WeightedSigmoidFocalBase<Context> {
 public:
  using WeightedSigmoidFocalBase<Context>::WeightedSigmoidFocalBase;
  bool RunOnDevice() override;
};

template <class Context>
class WeightedSigmoidFocalLossGradientOp final : public WeightedSigmoidFocalBase<Context> {
 public:
  using WeightedSigmoidFocalBase<Context>::WeightedSigmoidFocalBase;
  bool RunOnDevice() override;
};

}  // namespace detectron_ext
