// QualityFocalLoss: sigmoid focal loss whose target is the quality of a positive.
#pragma once

#include <utility>

#include <caffe2/core/operator.h>

#include "operators/arguments.h"
#include "operators/checks.h"
#include "operators/focal_loss_base.h"

namespace detectron_ext {

// What the loss and its gradient share: inputs X, T, fg_num, Q.
template <class Context>
class QualityFocalBase : public SigmoidFocalBase<Context> {
 public:
  template <class... Args>
  explicit QualityFocalBase(Args&&... args)
      : SigmoidFocalBase<Context>(std::forward<Args>(args)...),
        beta_(NotNegativeArgument(*this, "beta", 2.0f)),
        positive_weight_(NotNegativeArgument(*this, "positive_weight", 1.0f)),
        negative_weight_(NotNegativeArgument(*this, "negative_weight", 1.0f)) {}

 protected:
  // Enforces the shapes of X, T, fg_num and Q.
  SigmoidFocalShape CheckedShape() {
    const SigmoidFocalShape shape = SigmoidFocalBase<Context>::CheckedShape();
    EnforceSameShape(this->type(), "Q", this->Input(3), "T", this->Input(1));
    return shape;
  }

  const float beta_;
  const float positive_weight_;
  const float negative_weight_;
};

template <class Context>
class QualityFocalLossOp final : public QualityFocalBase<Context> {
 public:
  using QualityFocalBase<Context>::QualityFocalBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
};

template <class Context>
class QualityFocalLossGradientOp final : public QualityFocalBase<Context> {
 public:
  using QualityFocalBase<Context>::QualityFocalBase;
  bool RunOnDevice() override;
};

}  // namespace detectron_ext
