// The operators of a box loss on CUDA, for any formula that kernels/box_losses_cuda.cu
// instantiates.
#pragma once

#include <string>
#include <vector>

#include <caffe2/core/context_gpu.h>
#include <caffe2/core/operator.h>

#include "kernels/losses_cuda.h"
#include "operators/box_loss_base.h"
#include "operators/checks.h"
#include "operators/cuda_helpers.h"
#include "operators/places_on_cuda.h"
#include "operators/select_inputs.h"

namespace detectron_ext {

// Enforces what CheckSelectInputs enforces on the CPU. Waits for the device, which finds the first
// row of L outside Y_hat; `found` is its working memory.
inline SelectionPointers CheckSelectInputsCuda(const std::string& type, const caffe2::Tensor& y_hat,
                                               const caffe2::Tensor& y,
                                               const caffe2::Tensor& places,
                                               const caffe2::Tensor& s, caffe2::Tensor* found,
                                               caffe2::CUDAContext* context) {
  SelectionPointers in{};
  in.rows = CheckSelectShapes(type, y_hat, y, places, s);
  in.map = {y_hat.dim(0), y_hat.dim(1), y_hat.dim(2), y_hat.dim(3)};
  in.prediction = y_hat.data<float>();
  in.normalizer = s.data<float>();
  if (in.rows > 0) {
    in.target = y.data<float>();
    in.places = EnforceInsideOnCuda(type, places, in.map, "Y_hat", y_hat, found, context);
  }
  return in;
}

// Inputs Y_hat, Y, alpha_in, alpha_out; output the loss, a scalar.
template <class Formula>
class DenseLossOnCuda final : public DenseLossBase<caffe2::CUDAContext, Formula> {
 public:
  using DenseLossBase<caffe2::CUDAContext, Formula>::DenseLossBase;

  bool RunOnDevice() override {
    const DenseLossInputs in = this->CheckedInputs();
    auto* loss = this->Output(0, std::vector<int64_t>(), at::dtype<float>());
    DenseLossCuda(this->type().c_str(), this->loss_, in, static_cast<float>(this->Normalizer()),
                  PartialSums(&scratch_), loss->template mutable_data<float>(),
                  this->context_.cuda_stream());
    return true;
  }

 private:
  caffe2::Tensor scratch_;
};

// Inputs those of the loss and the gradient of the loss; output d_Y_hat.
template <class Formula>
class DenseLossGradientOnCuda final : public DenseLossBase<caffe2::CUDAContext, Formula> {
 public:
  using DenseLossBase<caffe2::CUDAContext, Formula>::DenseLossBase;

  bool RunOnDevice() override {
    const DenseLossInputs in = this->CheckedInputs();
    EnforceOneNumber(this->type(), "d_loss", this->Input(4));
    auto* d_prediction = this->Output(0, this->Input(0).sizes(), at::dtype<float>());
    DenseLossGradientCuda(
        this->type().c_str(), this->loss_, in, static_cast<float>(this->Normalizer()),
        this->Input(4).template data<float>(), d_prediction->template mutable_data<float>(),
        this->context_.cuda_stream());
    return true;
  }
};

// What the select form and its gradient share.
template <class Formula, bool kWeighted = false>
class SelectLossOnCudaBase : public SelectLossBase<caffe2::CUDAContext, Formula, kWeighted> {
 public:
  using SelectLossBase<caffe2::CUDAContext, Formula, kWeighted>::SelectLossBase;

 protected:
  // Enforces the shapes, and that every row of L lies inside Y_hat. Waits for the device.
  SelectionPointers CheckedInputs() {
    SelectionPointers in =
        CheckSelectInputsCuda(this->type(), this->Input(0), this->Input(1), this->Input(2),
                              this->Input(3), &found_, &this->context_);
    in.weights = this->CheckedWeights(in.rows);
    return in;
  }

  caffe2::Tensor scratch_;

 private:
  caffe2::Tensor found_;
};

// Inputs Y_hat, Y, L, S and, if kWeighted, R; output the loss, a scalar.
template <class Formula, bool kWeighted = false>
class SelectLossOnCuda final : public SelectLossOnCudaBase<Formula, kWeighted> {
 public:
  using SelectLossOnCudaBase<Formula, kWeighted>::SelectLossOnCudaBase;

  bool RunOnDevice() override {
    const SelectionPointers in = this->CheckedInputs();
    auto* loss = this->Output(0, std::vector<int64_t>(), at::dtype<float>());
    SelectLossCuda(this->type().c_str(), this->loss_, in, this->scale_,
                   PartialSums(&this->scratch_), loss->template mutable_data<float>(),
                   this->context_.cuda_stream());
    return true;
  }
};

// Inputs those of the loss and the gradient of the loss; output d_Y_hat.
template <class Formula, bool kWeighted = false>
class SelectLossGradientOnCuda final : public SelectLossOnCudaBase<Formula, kWeighted> {
 public:
  using SelectLossOnCudaBase<Formula, kWeighted>::SelectLossOnCudaBase;

  bool RunOnDevice() override {
    const SelectionPointers in = this->CheckedInputs();
    const caffe2::Tensor& d_loss = this->Input(this->InputSize() - 1);
    EnforceOneNumber(this->type(), "d_loss", d_loss);
    auto* d_prediction = this->Output(0, this->Input(0).sizes(), at::dtype<float>());
    SelectLossGradientCuda(
        this->type().c_str(), this->loss_, in, this->scale_, d_loss.template data<float>(),
        d_prediction->template mutable_data<float>(),
        Scratch<int32_t>(SelectScratch(in.rows), &this->scratch_), this->context_.cuda_stream());
    return true;
  }
};

}  // namespace detectron_ext
