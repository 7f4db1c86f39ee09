// Conv and ConvGradient on the CPU through oneDNN, on plain NCHW tensors.
//
// Caffe2's own CPU convolution unfolds the image into a matrix and multiplies; oneDNN, which comes
// with the same library, is three to five times as fast. What it is not given here (other orders,
// ranks, legacy or uneven padding, empty batches) runs on Caffe2's own operator, as does every
// convolution with the argument fast_conv=0 or the environment variable
// DETECTRON_EXT_FAST_CONV=0, read when the operator is made.
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <caffe2/core/operator.h>

#include "caffe2/checks.h"
#include "caffe2/conv_pool_override.h"
#include "caffe2/registration.h"

namespace detectron_ext {
namespace {

using caffe2::ArgumentHelper;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

bool SwitchedOn(const OperatorDef& definition) {
  const char* variable = std::getenv("DETECTRON_EXT_FAST_CONV");
  return ArgumentHelper::GetSingleArgument<OperatorDef, bool>(definition, "fast_conv", true) &&
      (variable == nullptr || std::string(variable) != "0");
}

// What the forward and the gradient operator share: the switch, the checks, the arguments.
class ConvBase : public ConvPoolOverride {
 public:
  // twin: as in ConvPoolOverride.
  ConvBase(const OperatorDef& definition, Workspace* workspace, const char* twin)
      : ConvPoolOverride(definition, workspace, twin), switched_on_(SwitchedOn(definition)) {
    CAFFE_ENFORCE(group_ > 0, type(), ": group is ", group_, ", must be above 0");
  }

 protected:
  bool Covers(const Tensor& x) const override {
    return switched_on_ && x.numel() > 0 && pads_[0] == pads_[2] && pads_[1] == pads_[3];
  }

  void CheckShapes(const Tensor& x, const Tensor& filter) const {
    CAFFE_ENFORCE(
        filter.dim() == 4 && filter.dim(0) % group_ == 0 &&
            filter.dim(1) * group_ == x.dim(1) && filter.dim(2) == kernel_[0] &&
            filter.dim(3) == kernel_[1],
        type(), ": filter of shape ", filter.sizes(), " does not fit X of shape ", x.sizes(),
        " with kernel ", kernel_[0], "x", kernel_[1], " and group ", group_);
  }

  std::vector<int64_t> padding() const { return {pads_[0], pads_[1]}; }
  std::vector<int64_t> stride() const { return {stride_.begin(), stride_.end()}; }
  std::vector<int64_t> dilation() const { return {dilation_.begin(), dilation_.end()}; }

 private:
  const bool switched_on_;
};

// Inputs X, filter and perhaps bias; output Y.
class ConvOp final : public ConvBase {
 public:
  ConvOp(const OperatorDef& definition, Workspace* workspace)
      : ConvBase(definition, workspace, "Conv2D") {}

 private:
  void RunFast() override {
    // No gradient is recorded by ATen: Caffe2 has its own.
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    const Tensor& x = Input(0);
    const Tensor& filter = Input(1);
    CheckShapes(x, filter);
    c10::optional<at::Tensor> bias;
    if (InputSize() == 3) {
      CAFFE_ENFORCE(
          Input(2).dim() == 1 && Input(2).dim(0) == filter.dim(0),
          type(), ": bias of shape ", Input(2).sizes(), " does not fit filter of shape ",
          filter.sizes());
      bias = at::Tensor(Input(2));
    }
    SetOutputTensor(
        0,
        Tensor(at::mkldnn_convolution(
            at::Tensor(x), at::Tensor(filter), bias, padding(), stride(), dilation(), group_)));
  }
};

// Inputs X, filter, dY; outputs dfilter, dbias unless no_bias, dX unless it is not asked for.
class ConvGradientOp final : public ConvBase {
 public:
  ConvGradientOp(const OperatorDef& definition, Workspace* workspace)
      : ConvBase(definition, workspace, "Conv2DGradient"),
        has_bias_(!GetSingleArgument<bool>("no_bias", false)) {
    CAFFE_ENFORCE(
        has_bias_ || OutputSize() <= 2,
        type(), ": with no_bias there are at most 2 outputs, not ", OutputSize());
  }

 private:
  void RunFast() override {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    CheckShapes(Input(0), Input(1));
    const at::Tensor x(Input(0));
    const at::Tensor filter(Input(1));
    EnforceShape(type(), "dY", Input(2), GetOutputSize(Input(0), filter.size(0)), "X", Input(0));
    const at::Tensor dy(Input(2));
    const int dx_output = has_bias_ ? 2 : 1;
    at::Tensor dx;
    if (OutputSize() > dx_output) {
      dx = at::mkldnn_convolution_backward_input(
          x.sizes(), dy, filter, padding(), stride(), dilation(), group_, has_bias_);
    }
    at::Tensor dfilter;
    at::Tensor dbias;
    std::tie(dfilter, dbias) = at::mkldnn_convolution_backward_weights(
        filter.sizes(), dy, x, padding(), stride(), dilation(), group_, has_bias_);
    SetOutputTensor(0, Tensor(dfilter));
    if (has_bias_) {
      SetOutputTensor(1, Tensor(dbias));
    }
    if (dx.defined()) {
      SetOutputTensor(dx_output, Tensor(dx));
    }
  }

  const bool has_bias_;
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(Conv, detectron_ext::ConvOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(ConvGradient, detectron_ext::ConvGradientOp);

}  // namespace caffe2
