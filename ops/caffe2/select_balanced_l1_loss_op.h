// SelectBalancedL1Loss: balanced L1 on the box regressions of foreground anchors alone.
#pragma once

#include <utility>

#include <caffe2/core/operator.h>

#include "caffe2/balanced_l1_arguments.h"

namespace detectron_ext {

// What the loss and its gradient share: the arguments.
template <class Context>
class SelectBalancedL1Base : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit SelectBalancedL1Base(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        loss_(BalancedL1FromArguments(*this)),
        scale_(ScaleFromArguments(*this)) {}

 protected:
  const BalancedL1 loss_;
  const float scale_;
};

template <class Context>
class SelectBalancedL1LossOp final : public SelectBalancedL1Base<Context> {
 public:
  using SelectBalancedL1Base<Context>::SelectBalancedL1Base;
  bool RunOnDevice() override;
};

template <class Context>
class SelectBalancedL1LossGradientOp final : public SelectBalancedL1Base<Context> {
 public:
  using SelectBalancedL1Base<Context>::SelectBalancedL1Base;
  bool RunOnDevice() override;
};

}  // namespace detectron_ext
