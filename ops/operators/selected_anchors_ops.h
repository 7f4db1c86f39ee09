// SelectBoxIou, SelectSigmoidFocalLoss and ScaleAnchors: numbers of the anchors that rows of L
// select, without a gradient.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/selected_anchors.h"
#include "operators/arguments.h"
#include "operators/checks.h"
#include "operators/select_inputs.h"

namespace detectron_ext {

// Enforces that L is (M, 4) and returns M. It reads no data.
inline int64_t CheckedRows(const std::string& type, const caffe2::Tensor& places) {
  CAFFE_ENFORCE(places.numel() == 0 || (places.dim() == 2 && places.dim(1) == 4), type,
                ": L of shape ", places.sizes(), " must be (M, 4)");
  return places.numel() / 4;
}

// Inputs Y_hat, Y, L; output U.
template <class Context>
class SelectBoxIouOp final : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit SelectBoxIouOp(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        max_log_scale_(PositiveArgument(*this, "max_log_scale", kMaxLogScale)) {}

  bool RunOnDevice() override;

 private:
  static constexpr float kMaxLogScale = 4.135166556742356f;  // ln(1000 / 16)
  const float max_log_scale_;
  caffe2::Tensor scratch_;  // on CUDA
};

// The argument channels: the number of channels of an anchor in the column c of L.
inline int64_t ChannelsArgument(const caffe2::OperatorBase& op) {
  const int channels = op.GetSingleArgument<int>("channels", 4);
  CAFFE_ENFORCE(channels >= 4 && channels % 4 == 0, op.type(), ": channels is ", channels,
                "; it must be a multiple of 4 above 0");
  return channels;
}

// Inputs X, T, L; outputs F and P.
template <class Context>
class SelectSigmoidFocalLossOp final : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit SelectSigmoidFocalLossOp(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        gamma_(NotNegativeArgument(*this, "gamma", 2.0f)),
        alpha_(NotNegativeArgument(*this, "alpha", 0.25f)),
        classes_(this->template GetSingleArgument<int>("num_classes", 80)),
        channels_(ChannelsArgument(*this)) {
    CAFFE_ENFORCE(alpha_ <= 1, this->type(), ": alpha is ", alpha_, "; it must be at most 1");
    CAFFE_ENFORCE(classes_ > 0, this->type(), ": num_classes is ", classes_,
                  "; it must be above 0");
  }

  bool RunOnDevice() override;

 private:
  // Enforces the shapes of X, T and L.
  SelectFocalInputs CheckedInputs() {
    const caffe2::Tensor& x = this->Input(0);
    const caffe2::Tensor& t = this->Input(1);
    CAFFE_ENFORCE(x.dim() == 4 && t.dim() == 4 && t.dim(0) == x.dim(0) &&
                      t.dim(1) * classes_ == x.dim(1) && t.dim(2) == x.dim(2) &&
                      t.dim(3) == x.dim(3),
                  this->type(), ": T of shape ", t.sizes(), " must be (N, A, H, W) for X of shape ",
                  x.sizes(), ", (N, A * num_classes, H, W) with num_classes ", classes_);
    const int64_t rows = CheckedRows(this->type(), this->Input(2));
    return {x.template data<float>(),
            t.template data<int32_t>(),
            {t.dim(0), t.dim(1), t.dim(2), t.dim(3), channels_},
            classes_,
            rows,
            rows ? this->Input(2).template data<float>() : nullptr,
            gamma_,
            alpha_};
  }

  const float gamma_, alpha_;
  const int64_t classes_, channels_;
  caffe2::Tensor scratch_;  // on CUDA
};

// Inputs W, V, L; output the scaled weights.
template <class Context>
class ScaleAnchorsOp final : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit ScaleAnchorsOp(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        channels_(ChannelsArgument(*this)) {}

  bool RunOnDevice() override;

 private:
  // Enforces the shapes of W, V and L, and returns that of W.
  AnchorMapShape CheckedShape() {
    const caffe2::Tensor& w = this->Input(0);
    EnforceDimensions(this->type(), "W", w, 4);
    const int64_t rows = CheckedRows(this->type(), this->Input(2));
    CAFFE_ENFORCE(this->Input(1).numel() == rows, this->type(), ": V of shape ",
                  this->Input(1).sizes(), " must hold one number for each row of L of shape ",
                  this->Input(2).sizes());
    return {w.dim(0), w.dim(1), w.dim(2), w.dim(3), channels_};
  }

  const int64_t channels_;
  caffe2::Tensor scratch_;  // on CUDA
};

}  // namespace detectron_ext
