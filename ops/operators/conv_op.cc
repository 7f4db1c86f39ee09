// Conv and ConvGradient on the CPU, on plain NCHW tensors: filters of 1x1 through
// kernels/pointwise_convolution.h, depthwise ones of 3x3 and 5x5 through
// kernels/depthwise_convolution.h, ones of 3x3 and stride 1 through kernels/winograd_convolution.h
// where that takes less time, others through oneDNN.
//
// Caffe2's own CPU convolution unfolds the image into a matrix and multiplies. oneDNN, which is in
// the same library, is three to five times as fast. Our kernels are faster than oneDNN, which copies
// the images into an order of its own and back. oneDNN pads both ends of a side alike; with other
// padding it gets images that are padded beforehand. Caffe2's own operator runs in all other cases
// (other orders and ranks, legacy padding, empty batches), and for every convolution if the
// arguments or the environment ask for it (operators/conv_algorithm.h), when the operator is
// created.
#include <algorithm>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <caffe2/core/operator.h>

#include "kernels/depthwise_convolution.h"
#include "kernels/parallel.h"
#include "kernels/pointwise_convolution.h"
#include "kernels/winograd_convolution.h"
#include "operators/below_autograd.h"
#include "operators/checks.h"
#include "operators/conv_algorithm.h"
#include "operators/conv_pool_override.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

// ATen returns channels-last order if the shape of the filter does not tell its order. This is the
// case with one input channel and with 1x1 filters.
Tensor Contiguous(const at::Tensor& tensor) { return Tensor(tensor.contiguous()); }

// What the operator and its gradient share: the choice of the algorithm, the checks, the arguments.
class ConvBase : public ConvPoolOverride {
 public:
  // twin: as in ConvPoolOverride.
  ConvBase(const OperatorDef& definition, Workspace* workspace, const char* twin)
      : ConvPoolOverride(definition, workspace, twin), algorithm_(definition) {
    CAFFE_ENFORCE(group_ > 0, type(), ": group is ", group_, "; it must be above 0");
  }

 protected:
  void EnforceInputs(const Tensor& x) override {
    const Tensor& filter = Input(1);
    const int channels = channels_last() ? x.dim() - 1 : 1;
    const int window = channels_last() ? 1 : 2;
    CAFFE_ENFORCE(filter.numel() > 0, type(), ": filter of shape ", filter.sizes(), " is empty");
    CAFFE_ENFORCE(filter.dim() == x.dim() && filter.dim(0) % group_ == 0 &&
                      filter.dim(channels) * group_ == x.dim(channels) &&
                      std::equal(kernel_.begin(), kernel_.end(), filter.sizes().begin() + window),
                  type(), ": filter of shape ", filter.sizes(), " does not fit X of shape ",
                  x.sizes(), " with kernel ", at::IntArrayRef(KernelSizes()), " and group ",
                  group_);
  }

  bool Covers(const Tensor& x) override { return !algorithm_.stock() && x.numel() > 0; }

  void RunFast() override {
    if (IsPointwise()) {
      RunPointwise();
      return;
    }
    if (IsDepthwise()) {
      RunDepthwise();
      return;
    }
    const BelowAutograd below_autograd;
    RunOther();
  }

  virtual void RunPointwise() = 0;
  virtual void RunDepthwise() = 0;
  // Runs filters that are neither of 1x1 nor depthwise.
  virtual void RunOther() = 0;

  // Returns the tile of Winograd's minimal filtering for a pass, or kNone for a direct sum.
  WinogradTile TileFor(ConvolutionPass pass) {
    const bool covered = group_ == 1 && IsWindow(3) && IsOne(stride_) && IsOne(dilation_) &&
        std::all_of(pads_.begin(), pads_.end(), [](int pad) { return pad >= 0 && pad <= 2; });
    const WinogradShape shape = winograd_shape();
    const bool any_output = shape.out_height() > 0 && shape.out_width() > 0;
    return covered && any_output ? algorithm_.TileFor(shape, pass) : WinogradTile::kNone;
  }

  WinogradShape winograd_shape() {
    const Tensor& x = Input(0);
    return {x.dim(0), x.dim(1), Input(1).dim(0), x.dim(2), x.dim(3),
            pads_[0], pads_[1], pads_[2],        pads_[3]};
  }

  PointwiseShape pointwise_shape(const Tensor& x, const Tensor& filter) const {
    return {x.dim(0), filter.dim(1), filter.dim(0), x.dim(2), x.dim(3), stride_[0], stride_[1]};
  }

  // out_sizes: the shape of Y.
  DepthwiseShape depthwise_shape(const Tensor& x, const std::vector<int64_t>& out_sizes) const {
    return {x.dim(0),
            x.dim(1),
            {x.dim(2), out_sizes[2], pads_[0]},
            {x.dim(3), out_sizes[3], pads_[1]},
            kernel_[0],
            stride_[0]};
  }

  // Both ends of each side have the same padding, as oneDNN needs it.
  bool PadsEvenly() const { return pads_[0] == pads_[2] && pads_[1] == pads_[3]; }

  // The padding that oneDNN adds itself.
  std::vector<int64_t> padding() const {
    return PadsEvenly() ? std::vector<int64_t>{pads_[0], pads_[1]} : std::vector<int64_t>{0, 0};
  }

  // Returns x, with zeros around it where oneDNN cannot pad.
  at::Tensor PaddedForOneDnn(const at::Tensor& x) const {
    // ATen pads the last dimension first.
    return PadsEvenly() ? x : at::constant_pad_nd(x, {pads_[1], pads_[3], pads_[0], pads_[2]}, 0);
  }

  // Returns the part of a padded image's gradient that belongs to the image of the given shape.
  at::Tensor WithoutPadding(const at::Tensor& dx, at::IntArrayRef sizes) const {
    return PadsEvenly() ? dx : dx.narrow(2, pads_[0], sizes[2]).narrow(3, pads_[1], sizes[3]);
  }

  std::vector<int64_t> stride() const { return {stride_.begin(), stride_.end()}; }
  std::vector<int64_t> dilation() const { return {dilation_.begin(), dilation_.end()}; }

 private:
  std::vector<int64_t> KernelSizes() const { return {kernel_.begin(), kernel_.end()}; }

  bool IsPointwise() const {
    return group_ == 1 && IsWindow(1) &&
        std::all_of(pads_.begin(), pads_.end(), [](int pad) { return pad == 0; });
  }

  bool IsWindow(int side) const { return kernel_[0] == side && kernel_[1] == side; }

  static bool IsOne(const std::vector<int>& values) {
    return std::all_of(values.begin(), values.end(), [](int value) { return value == 1; });
  }

  // Every channel has one filter, and its window is one that the kernels know.
  bool IsDepthwise() {
    return group_ == Input(0).dim(1) && Input(1).dim() == 4 && Input(1).dim(0) == group_ &&
        dilation_[0] == 1 && dilation_[1] == 1 &&
        IsDepthwiseWindow(kernel_[0], kernel_[1], stride_[0], stride_[1]);
  }

  const ConvAlgorithm algorithm_;
};

// Inputs X, filter and optionally bias; output Y.
class ConvOp final : public ConvBase {
 public:
  ConvOp(const OperatorDef& definition, Workspace* workspace)
      : ConvBase(definition, workspace, "Conv2D") {}

 private:
  void RunPointwise() override {
    const Tensor& x = Input(0);
    const Tensor& filter = Input(1);
    Tensor* y = Output(0, GetOutputSize(x, filter.dim(0)), at::dtype<float>());
    PointwiseConvolution(pointwise_shape(x, filter), x.data<float>(), filter.data<float>(),
                         InputSize() == 3 ? Input(2).data<float>() : nullptr,
                         y->mutable_data<float>(), ThreadPoolFor);
  }

  void RunDepthwise() override {
    const Tensor& x = Input(0);
    const Tensor& filter = Input(1);
    const std::vector<int64_t> sizes = GetOutputSize(x, filter.dim(0));
    Tensor* y = Output(0, sizes, at::dtype<float>());
    DepthwiseConvolution(depthwise_shape(x, sizes), x.data<float>(), filter.data<float>(),
                         InputSize() == 3 ? Input(2).data<float>() : nullptr,
                         y->mutable_data<float>(), ThreadPoolFor);
  }

  void RunOther() override {
    const WinogradTile tile = TileFor(ConvolutionPass::kForward);
    if (tile == WinogradTile::kNone) {
      RunOneDnn();
      return;
    }
    const Tensor& filter = Input(1);
    Tensor* y = Output(0, GetOutputSize(Input(0), filter.dim(0)), at::dtype<float>());
    WinogradConvolution(winograd_shape(), tile, Input(0).data<float>(), filter.data<float>(),
                        InputSize() == 3 ? Input(2).data<float>() : nullptr,
                        y->mutable_data<float>(), ThreadPoolFor);
  }

  void RunOneDnn() {
    // Every version of ATen takes an undefined tensor for "no bias"; only newer ones take an
    // optional.
    const at::Tensor bias = InputSize() == 3 ? at::Tensor(Input(2)) : at::Tensor();
    SetOutputTensor(0,
                    Contiguous(at::mkldnn_convolution(PaddedForOneDnn(at::Tensor(Input(0))),
                                                      at::Tensor(Input(1)), bias, padding(),
                                                      stride(), dilation(), group_)));
  }

  void EnforceInputs(const Tensor& x) override {
    ConvBase::EnforceInputs(x);
    CAFFE_ENFORCE(InputSize() < 3 || (Input(2).dim() == 1 && Input(2).dim(0) == Input(1).dim(0)),
                  type(), ": bias of shape ", Input(2).sizes(), " does not fit filter of shape ",
                  Input(1).sizes());
  }
};

// Inputs X, filter, dY; outputs dfilter, dbias (unless no_bias is set) and, if it is asked for, dX.
class ConvGradientOp final : public ConvBase {
 public:
  ConvGradientOp(const OperatorDef& definition, Workspace* workspace)
      : ConvBase(definition, workspace, "Conv2DGradient"),
        has_bias_(!GetSingleArgument<bool>("no_bias", false)) {
    CAFFE_ENFORCE(has_bias_ || OutputSize() <= 2, type(),
                  ": with no_bias there are at most 2 outputs, not ", OutputSize());
  }

 private:
  int dx_output() const { return has_bias_ ? 2 : 1; }

  void RunPointwise() override {
    const Tensor& x = Input(0);
    const Tensor& filter = Input(1);
    const Tensor& dy = Input(2);
    const PointwiseShape shape = pointwise_shape(x, filter);
    Tensor* dfilter = Output(0, filter.sizes(), at::dtype<float>());
    Tensor* dbias = has_bias_ ? Output(1, {filter.dim(0)}, at::dtype<float>()) : nullptr;
    PointwiseFilterGradient(shape, x.data<float>(), dy.data<float>(),
                            dfilter->mutable_data<float>(),
                            has_bias_ ? dbias->mutable_data<float>() : nullptr, ThreadPoolFor);
    if (OutputSize() > dx_output()) {
      Tensor* dx = Output(dx_output(), x.sizes(), at::dtype<float>());
      PointwiseInputGradient(shape, filter.data<float>(), dy.data<float>(),
                             dx->mutable_data<float>(), ThreadPoolFor);
    }
  }

  void RunDepthwise() override {
    const Tensor& x = Input(0);
    const Tensor& filter = Input(1);
    const Tensor& dy = Input(2);
    const DepthwiseShape shape = depthwise_shape(x, dy.sizes().vec());
    Tensor* dfilter = Output(0, filter.sizes(), at::dtype<float>());
    Tensor* dbias = has_bias_ ? Output(1, {filter.dim(0)}, at::dtype<float>()) : nullptr;
    Tensor* dx =
        OutputSize() > dx_output() ? Output(dx_output(), x.sizes(), at::dtype<float>()) : nullptr;
    DepthwiseGradients(shape, x.data<float>(), filter.data<float>(), dy.data<float>(),
                       dfilter->mutable_data<float>(),
                       has_bias_ ? dbias->mutable_data<float>() : nullptr,
                       dx == nullptr ? nullptr : dx->mutable_data<float>(), ThreadPoolFor);
  }

  void RunOther() override {
    const WinogradTile filter_tile = TileFor(ConvolutionPass::kFilterGradient);
    if (filter_tile == WinogradTile::kNone) {
      RunFilterGradientOneDnn();
    } else {
      Tensor* dfilter = Output(0, Input(1).sizes(), at::dtype<float>());
      Tensor* dbias = has_bias_ ? Output(1, {Input(1).dim(0)}, at::dtype<float>()) : nullptr;
      WinogradFilterGradient(winograd_shape(), filter_tile, Input(0).data<float>(),
                             Input(2).data<float>(), dfilter->mutable_data<float>(),
                             has_bias_ ? dbias->mutable_data<float>() : nullptr, ThreadPoolFor);
    }
    if (OutputSize() == dx_output()) {
      return;
    }
    const WinogradTile input_tile = TileFor(ConvolutionPass::kInputGradient);
    if (input_tile == WinogradTile::kNone) {
      RunInputGradientOneDnn();
    } else {
      Tensor* dx = Output(dx_output(), Input(0).sizes(), at::dtype<float>());
      WinogradInputGradient(winograd_shape(), input_tile, Input(1).data<float>(),
                            Input(2).data<float>(), dx->mutable_data<float>(), ThreadPoolFor);
    }
  }

  // oneDNN divides the sums of this gradient among its threads, on some processors also within an
  // image, so that the rounding depends on their number. Here each image, and each share of its
  // output channels, is a unit that one thread computes, and images are added in their order.
  void RunFilterGradientOneDnn() {
    const at::Tensor x = PaddedForOneDnn(at::Tensor(Input(0)));
    const at::Tensor dy = at::Tensor(Input(2));
    const int64_t images = x.size(0);
    const int64_t filters = dy.size(1);
    const int64_t share = FiltersOfUnit(images, filters);
    const int64_t shares = (filters + share - 1) / share;
    std::vector<FilterGradients> units(images * shares);
    ForEachBlock(ThreadPoolFor, images * shares, 1, [&](int64_t unit, int64_t) {
      const int64_t first = unit % shares * share;
      units[unit] = GradientsOfUnit(x, dy, unit / shares, first, std::min(share, filters - first));
    });

    Tensor* dfilter = Output(0, Input(1).sizes(), at::dtype<float>());
    Tensor* dbias = has_bias_ ? Output(1, {filters}, at::dtype<float>()) : nullptr;
    for (int64_t k = 0; k < shares; ++k) {
      for (int64_t image = 1; image < images; ++image) {
        units[k].Add(units[image * shares + k]);
      }
      const at::Tensor& sum = units[k].filter;
      const int64_t first = k * share;
      std::copy_n(sum.data_ptr<float>(), sum.numel(),
                  dfilter->mutable_data<float>() + first * (dfilter->numel() / filters));
      if (has_bias_) {
        std::copy_n(units[k].bias.data_ptr<float>(), units[k].bias.numel(),
                    dbias->mutable_data<float>() + first);
      }
    }
  }

  struct FilterGradients {
    at::Tensor filter;
    at::Tensor bias;  // undefined without a bias

    void Add(const FilterGradients& other) {
      filter.add_(other.filter);
      if (bias.defined()) {
        bias.add_(other.bias);
      }
    }
  };

  // Returns the number of output channels in a unit of work: all, or fewer if there would be too few
  // units for the threads of a usual machine. Each unit reads its image again.
  int64_t FiltersOfUnit(int64_t images, int64_t filters) const {
    constexpr int64_t kUnits = 8;
    constexpr int64_t kFewestFilters = 32;  // of a unit; also what shares are rounded up to
    if (group_ > 1) {
      return filters;
    }
    const int64_t shares = (kUnits + images - 1) / images;
    const int64_t share = (filters + shares - 1) / shares;
    return (share + kFewestFilters - 1) / kFewestFilters * kFewestFilters;
  }

  // Returns the gradients of `count` filters, beginning with `first`, from one image.
  FilterGradients GradientsOfUnit(const at::Tensor& x, const at::Tensor& dy, int64_t image,
                                  int64_t first, int64_t count) {
    const BelowAutograd below_autograd;
    const OneThread one_thread;
    std::vector<int64_t> shape = Input(1).sizes().vec();
    shape[0] = count;
    const auto found = at::mkldnn_convolution_backward_weights(
        shape, dy.narrow(0, image, 1).narrow(1, first, count).contiguous(), x.narrow(0, image, 1),
        padding(), stride(), dilation(), group_, has_bias_);
    const at::Tensor bias = std::get<1>(found);
    return {std::get<0>(found).contiguous(), has_bias_ ? bias.contiguous() : at::Tensor()};
  }

  void RunInputGradientOneDnn() {
    const at::Tensor x = PaddedForOneDnn(at::Tensor(Input(0)));
    const at::Tensor dx = WithoutPadding(
        at::mkldnn_convolution_backward_input(x.sizes(), at::Tensor(Input(2)), at::Tensor(Input(1)),
                                              padding(), stride(), dilation(), group_, has_bias_),
        Input(0).sizes());
    SetOutputTensor(dx_output(), Contiguous(dx));
  }

  void EnforceInputs(const Tensor& x) override {
    ConvBase::EnforceInputs(x);
    EnforceShape(type(), "dY", Input(2), GetOutputSize(x, Input(1).dim(0)), "X", x);
  }

  const bool has_bias_;
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(Conv, detectron_ext::ConvOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(ConvGradient, detectron_ext::ConvGradientOp);

}  // namespace caffe2
