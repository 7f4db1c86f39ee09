// BalancedL1Loss: Libra R-CNN's regression loss with inside and outside weights.
#pragma once

#include <caffe2/core/operator.h>

#include "operators/box_loss_base.h"

namespace detectron_ext {

template <class Context>
class BalancedL1LossOp final : public DenseLossBase<Context, BalancedL1> {
 public:
  using DenseLossBase<Context, BalancedL1>::DenseLossBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
};

template <class Context>
class BalancedL1LossGradientOp final : public DenseLossBase<Context, BalancedL1> {
 public:
  using DenseLossBase<Context, BalancedL1>::DenseLossBase;
  bool RunOnDevice() override;
};

}  // namespace detectron_ext
