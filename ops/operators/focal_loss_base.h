// What the focal losses and their gradients share: arguments and inputs.
#pragma once

#include <algorithm>
#include <utility>

#include <caffe2/core/operator.h>

#include "kernels/focal_parameters.h"
#include "kernels/sigmoid_focal_loss.h"
#include "operators/arguments.h"
#include "operators/checks.h"

namespace detectron_ext {

// Inputs X, T, fg_num.
template <class Context>
class FocalBase : public caffe2::Operator<Context> {
 public:
  // default_classes: the default of the argument num_classes.
  template <class... Args>
  explicit FocalBase(int default_classes, Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        scale_(ScaleArgument(*this)),
        gamma_(NotNegativeArgument(*this, "gamma", 1.0f)),
        alpha_(NotNegativeArgument(*this, "alpha", 0.25f)),
        classes_(this->template GetSingleArgument<int>("num_classes", default_classes)) {
    CAFFE_ENFORCE(alpha_ <= 1, this->type(), ": alpha is ", alpha_, "; it must be at most 1");
    CAFFE_ENFORCE(classes_ > 0, this->type(), ": num_classes is ", classes_,
                  "; it must be above 0");
  }

 protected:
  // Enforces that X is (N, A * classes, H, W), T (N, A, H, W) and fg_num one number.
  void CheckFocalInputs() {
    const caffe2::Tensor& x = this->Input(0);
    const caffe2::Tensor& t = this->Input(1);
    CAFFE_ENFORCE(x.dim() == 4 && t.dim() == 4 && t.dim(0) == x.dim(0) &&
                      t.dim(1) * classes_ == x.dim(1) && t.dim(2) == x.dim(2) &&
                      t.dim(3) == x.dim(3),
                  this->type(), ": T of shape ", t.sizes(), " must be (N, A, H, W) for X of shape ",
                  x.sizes(), ", (N, A * num_classes, H, W) with num_classes ", classes_);
    EnforceOneNumber(this->type(), "fg_num", this->Input(2));
  }

  // Returns T, which must be on the CPU. Enforces that labels are from -1 to `largest`.
  const int32_t* CheckedLabels(int32_t largest) {
    const caffe2::Tensor& t = this->Input(1);
    const int32_t* const labels = t.template data<int32_t>();
    int32_t least = -1;
    int32_t most = -1;
    for (int64_t i = 0; i < t.numel(); ++i) {
      least = std::min(least, labels[i]);
      most = std::max(most, labels[i]);
    }
    CAFFE_ENFORCE(least == -1 && most <= largest, this->type(), ": T of shape ", t.sizes(),
                  " holds ", least < -1 ? least : most, ", but labels of X of shape ",
                  this->Input(0).sizes(), " with num_classes ", classes_,
                  " are at least -1 and at most ", largest);
    return labels;
  }

  // Returns the parameters of the formula. fg_num must be on the CPU.
  FocalParameters Parameters() {
    const float count = ForegroundCount(this->Input(2));
    return {gamma_, alpha_ / count, (1.0f - alpha_) / count};
  }

  const float scale_;
  const float gamma_;
  const float alpha_;
  const int64_t classes_;
};

// The focal losses with one sigmoid for each class: labels are -1 to classes.
template <class Context>
class SigmoidFocalBase : public FocalBase<Context> {
 public:
  template <class... Args>
  explicit SigmoidFocalBase(Args&&... args)
      : FocalBase<Context>(/*default_classes=*/80, std::forward<Args>(args)...) {}

 protected:
  // Enforces the shapes of X, T and fg_num.
  SigmoidFocalShape CheckedShape() {
    this->CheckFocalInputs();
    const caffe2::Tensor& t = this->Input(1);
    return {t.dim(0) * t.dim(1), this->classes_, t.dim(2) * t.dim(3)};
  }
};

}  // namespace detectron_ext
