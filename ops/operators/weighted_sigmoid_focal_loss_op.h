// WeightedSigmoidFocalLoss: sigmoid focal loss with a weight for every anchor.
#pragma once

#include <caffe2/core/operator.h>

#include "kernels/sigmoid_focal_loss.h"
#include "operators/checks.h"
#include "operators/focal_loss_base.h"

namespace detectron_ext {

// What the loss and its gradient share: inputs X, T, fg_num, W.
template <class Context>
class WeightedSigmoidFocalBase : public SigmoidFocalBase<Context> {
 public:
  using SigmoidFocalBase<Context>::SigmoidFocalBase;

 protected:
  // Enforces the shapes of X, T, fg_num and W.
  SigmoidFocalShape CheckedShape() {
    const SigmoidFocalShape shape = SigmoidFocalBase<Context>::CheckedShape();
    EnforceSameShape(this->type(), "W", this->Input(3), "T", this->Input(1));
    return shape;
  }
};

template <class Context>
class WeightedSigmoidFocalLossOp final : public WeightedSigmoidFocalBase<Context> {
 public:
  using WeightedSigmoidFocalBase<Context>::WeightedSigmoidFocalBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
};

template <class Context>
class WeightedSigmoidFocalLossGradientOp final : public WeightedSigmoidFocalBase<Context> {
 public:
  using WeightedSigmoidFocalBase<Context>::WeightedSigmoidFocalBase;
  bool RunOnDevice() override;
};

}  // namespace detectron_ext
