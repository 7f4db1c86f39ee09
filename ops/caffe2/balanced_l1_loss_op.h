// BalancedL1Loss: Libra R-CNN's regression loss with inside and outside weights.
#pragma once

#include <utility>

#include <caffe2/core/operator.h>

#include "caffe2/balanced_l1_arguments.h"
#include "kernels/dense_loss.h"

namespace detectron_ext {

// What the loss and its gradient share: arguments and shape checks.
template <class Context>
class BalancedL1Base : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit BalancedL1Base(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        loss_(BalancedL1FromArguments(*this)),
        scale_(ScaleFromArguments(*this)) {}

 protected:
  // Enforces that Y, alpha_in and alpha_out have as many elements as Y_hat, Y as many rows.
  DenseLossInputs CheckedInputs() {
    const caffe2::Tensor& prediction = this->Input(0);
    CAFFE_ENFORCE(
        prediction.dim() > 0, this->type(), ": Y_hat must have a first axis, but is a scalar");
    const char* const names[] = {"Y_hat", "Y", "alpha_in", "alpha_out"};
    for (int i = 1; i < 4; ++i) {
      const caffe2::Tensor& other = this->Input(i);
      CAFFE_ENFORCE(
          other.numel() == prediction.numel() &&
              (i > 1 || (other.dim() > 0 && other.dim(0) == prediction.dim(0))),
          this->type(), ": ", names[i], " of shape ", other.sizes(), " does not fit Y_hat of shape ",
          prediction.sizes());
    }
    return {prediction.numel(), this->Input(0).template data<float>(),
            this->Input(1).template data<float>(), this->Input(2).template data<float>(),
            this->Input(3).template data<float>()};
  }

  // scale / N; 0 where there are no rows.
  double Normalizer() {
    const int64_t rows = this->Input(0).dim(0);
    return rows == 0 ? 0.0 : static_cast<double>(scale_) / rows;
  }

  const BalancedL1 loss_;
  const float scale_;
};

template <class Context>
class BalancedL1LossOp final : public BalancedL1Base<Context> {
 public:
  using BalancedL1Base<Context>::BalancedL1Base;
  bool RunOnDevice() override;
};

template <class Context>
class BalancedL1LossGradientOp final : public BalancedL1Base<Context> {
 public:
  using BalancedL1Base<Context>::BalancedL1Base;
  bool RunOnDevice() override;
};

}  // namespace detectron_ext
