// The operators of a box loss on the CPU, for any formula of kernels/dense_loss.h.
#pragma once

#include <caffe2/core/operator.h>

#include "operators/box_loss_base.h"
#include "operators/loss_on_cpu.h"
#include "operators/threads.h"

namespace detectron_ext {

// Inputs Y_hat, Y, alpha_in, alpha_out; output the loss, a scalar.
template <class Formula>
class DenseLossOnCpu final : public DenseLossBase<caffe2::CPUContext, Formula> {
 public:
  using DenseLossBase<caffe2::CPUContext, Formula>::DenseLossBase;

  bool RunOnDevice() override {
    const DenseLossInputs in = this->CheckedInputs();
    return WriteLoss(this, this->Normalizer() * DenseLossSum(in, this->loss_, ThreadPoolFor));
  }
};

// Inputs those of the loss and the gradient of the loss; output d_Y_hat.
template <class Formula>
class DenseLossGradientOnCpu final : public DenseLossBase<caffe2::CPUContext, Formula> {
 public:
  using DenseLossBase<caffe2::CPUContext, Formula>::DenseLossBase;

  bool RunOnDevice() override {
    const DenseLossInputs in = this->CheckedInputs();
    const auto factor = static_cast<float>(this->Normalizer() * LossGradient(this));
    DenseLossGradient(in, this->loss_, factor, PredictionGradient(this), ThreadPoolFor);
    return true;
  }
};

// Inputs Y_hat, Y, L, S and, if kWeighted, R; output the loss, a scalar.
template <class Formula, bool kWeighted = false>
class SelectLossOnCpu final : public SelectLossBase<caffe2::CPUContext, Formula, kWeighted> {
 public:
  using SelectLossBase<caffe2::CPUContext, Formula, kWeighted>::SelectLossBase;

  bool RunOnDevice() override {
    const SelectLossInputs in = this->CheckedInputs();
    return WriteLoss(this, this->Normalizer() * SelectLossSum(in, this->loss_));
  }
};

// Inputs those of the loss and the gradient of the loss; output d_Y_hat.
template <class Formula, bool kWeighted = false>
class SelectLossGradientOnCpu final
    : public SelectLossBase<caffe2::CPUContext, Formula, kWeighted> {
 public:
  using SelectLossBase<caffe2::CPUContext, Formula, kWeighted>::SelectLossBase;

  bool RunOnDevice() override {
    const SelectLossInputs in = this->CheckedInputs();
    const float factor = this->Normalizer() * LossGradient(this);
    SelectLossGradient(in, this->loss_, factor, PredictionGradient(this), ThreadPoolFor);
    return true;
  }
};

}  // namespace detectron_ext
