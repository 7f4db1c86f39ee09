// NegativeGradientMass: the focal loss's gradient of the negatives, summed for each bin of them.
#pragma once

#include <utility>

#include <caffe2/core/operator.h>

#include "kernels/gradient_mass.h"
#include "operators/arguments.h"
#include "operators/checks.h"

namespace detectron_ext {

// Inputs X, B; output the masses.
template <class Context>
class NegativeGradientMassOp final : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit NegativeGradientMassOp(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        gamma_(NotNegativeArgument(*this, "gamma", 2.0f)),
        alpha_(NotNegativeArgument(*this, "alpha", 0.25f)),
        classes_(this->template GetSingleArgument<int>("num_classes", 80)),
        num_bins_(this->template GetSingleArgument<int>("num_bins", 3)) {
    CAFFE_ENFORCE(alpha_ <= 1, this->type(), ": alpha is ", alpha_, "; it must be at most 1");
    CAFFE_ENFORCE(classes_ > 0, this->type(), ": num_classes is ", classes_,
                  "; it must be above 0");
    CAFFE_ENFORCE(num_bins_ > 0 && num_bins_ <= kMaxGradientBins, this->type(), ": num_bins is ",
                  num_bins_, "; it must be from 1 to ", kMaxGradientBins);
  }

  bool RunOnDevice() override;

 private:
  // Enforces the shapes of X and B.
  GradientMassInputs CheckedInputs() {
    const caffe2::Tensor& x = this->Input(0);
    const caffe2::Tensor& b = this->Input(1);
    CAFFE_ENFORCE(x.dim() == 4 && b.dim() == 4 && b.dim(0) == x.dim(0) &&
                      b.dim(1) * classes_ == x.dim(1) && b.dim(2) == x.dim(2) &&
                      b.dim(3) == x.dim(3),
                  this->type(), ": B of shape ", b.sizes(), " must be (N, A, H, W) for X of shape ",
                  x.sizes(), ", (N, A * num_classes, H, W) with num_classes ", classes_);
    return {b.dim(0) * b.dim(1),
            classes_,
            b.dim(2) * b.dim(3),
            x.template data<float>(),
            b.template data<int32_t>(),
            num_bins_,
            gamma_,
            alpha_};
  }

  const float gamma_, alpha_;
  const int64_t classes_, num_bins_;
  caffe2::Tensor scratch_;  // on CUDA
};

}  // namespace detectron_ext
