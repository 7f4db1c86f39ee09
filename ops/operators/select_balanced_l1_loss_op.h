// SelectBalancedL1Loss: balanced L1 on the box regressions of foreground anchors alone.
#pragma once

#include <caffe2/core/operator.h>

#include "operators/box_loss_base.h"

namespace detectron_ext {

template <class Context>
class SelectBalancedL1LossOp final : public SelectLossBase<Context, BalancedL1> {
 public:
  using SelectLossBase<Context, BalancedL1>::SelectLossBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
  caffe2::Tensor found_;
};

template <class Context>
class SelectBalancedL1LossGradientOp final : public SelectLossBase<Context, BalancedL1> {
 public:
  using SelectLossBase<Context, BalancedL1>::SelectLossBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
  caffe2::Tensor found_;
};

}  // namespace detectron_ext
