// EmbeddedGaussianAttention: the non-local block's softmax(theta^T phi) g.
#pragma once

#include <cmath>
#include <utility>

#include <caffe2/core/operator.h>

#include "kernels/attention.h"
#include "operators/checks.h"

namespace detectron_ext {

// What the operator and its gradient share: the argument and shape checks.
template <class Context>
class EmbeddedGaussianAttentionBase : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit EmbeddedGaussianAttentionBase(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        use_scale_(this->template GetSingleArgument<bool>("use_scale", false)) {}

 protected:
  // Enforces the shapes of theta, phi and g.
  AttentionShape CheckedShape() {
    const caffe2::Tensor& theta = this->Input(0);
    EnforceDimensions(this->type(), "theta", theta, 4);
    CheckLikeTheta(1, "phi");
    CheckLikeTheta(2, "g");
    const int64_t channels = theta.dim(1);
    const float scale =
        use_scale_ && channels > 0 ? 1.0f / std::sqrt(static_cast<float>(channels)) : 1.0f;
    return {theta.dim(0), channels, theta.dim(2) * theta.dim(3), scale};
  }

  // Enforces the shapes of the gradient's inputs.
  AttentionShape CheckedGradientShape() {
    const AttentionShape shape = CheckedShape();
    CheckLikeTheta(3, "out");
    CheckLikeTheta(4, "d_out");
    CAFFE_ENFORCE(this->InputSize() < 6 || this->Input(5).numel() == shape.images * shape.positions,
                  this->type(), ": log_sums of shape ", this->Input(5).sizes(),
                  " must hold one number for each position of theta of shape ",
                  this->Input(0).sizes());
    return shape;
  }

  void CheckLikeTheta(int input, const char* name) {
    EnforceSameShape(this->type(), name, this->Input(input), "theta", this->Input(0));
  }

  const bool use_scale_;
};

template <class Context>
class EmbeddedGaussianAttentionOp final : public EmbeddedGaussianAttentionBase<Context> {
 public:
  using EmbeddedGaussianAttentionBase<Context>::EmbeddedGaussianAttentionBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
  caffe2::Tensor log_sums_;
};

template <class Context>
class EmbeddedGaussianAttentionGradientOp final : public EmbeddedGaussianAttentionBase<Context> {
 public:
  using EmbeddedGaussianAttentionBase<Context>::EmbeddedGaussianAttentionBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
  caffe2::Tensor log_sums_;
};

}  // namespace detectron_ext
