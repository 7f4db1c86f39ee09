// What the replacements of Caffe2's convolution and pooling share: Caffe2's own operator runs for
// all cases that the faster implementation does not cover.
#pragma once

#include <vector>

#include <caffe2/core/operator.h>
#include <caffe2/operators/conv_pool_op_base.h>

#include "operators/stock_operator.h"

namespace detectron_ext {

// The largest kernel, stride, dilation or padding. Caffe2 multiplies and adds them as integers of 32
// bits.
constexpr int kLargestWindowSize = 1 << 14;

class ConvPoolOverride : public caffe2::ConvPoolOpBase<caffe2::CPUContext> {
 public:
  // twin: as in StockOperator.
  ConvPoolOverride(const caffe2::OperatorDef& definition, caffe2::Workspace* workspace,
                   const char* twin)
      : ConvPoolOpBase<caffe2::CPUContext>(definition, workspace),
        stock_(definition, workspace, twin),
        plain_(order_ == caffe2::StorageOrder::NCHW && kernel_.size() == 2 &&
               legacy_pad_ == caffe2::LegacyPadding::NOTSET) {
    EnforceSizes("stride", stride_, 1);
    EnforceSizes("dilation", dilation_, 1);
    EnforceSizes("padding", pads_, 0);
    if (!global_pooling_) {
      EnforceSizes("kernel", kernel_, 1);
    }
  }

  bool RunOnDevice() override {
    const caffe2::Tensor& x = Input(0);
    EnforceRank(x);
    if (!global_pooling_ && legacy_pad_ == caffe2::LegacyPadding::NOTSET) {
      EnforceWindow(x);
    }
    EnforceInputs(x);
    if (!plain_ || x.dim() != 4 || !x.IsType<float>() || !Covers(x)) {
      return stock_.Run();
    }
    RunFast();
    return true;
  }

 protected:
  // Enforces that the inputs fit one another. Caffe2's own operators compute with what does not fit:
  // they divide by 0, or read beyond the end of an input.
  virtual void EnforceInputs(const caffe2::Tensor& /*x*/) {}
  // Returns whether RunFast can run for input x. It is called only if x is a float tensor
  // (N, C, H, W), the order is NCHW, windows are two-dimensional and there is no legacy padding.
  virtual bool Covers(const caffe2::Tensor& x) = 0;
  // Computes all outputs.
  virtual void RunFast() = 0;

  bool channels_last() const { return order_ == caffe2::StorageOrder::NHWC; }

 private:
  void EnforceSizes(const char* name, const std::vector<int>& sizes, int least) {
    for (const int size : sizes) {
      CAFFE_ENFORCE(size >= least && size <= kLargestWindowSize, type(), ": a ", name, " is ", size,
                    "; it must be ", least, " to ", kLargestWindowSize);
    }
  }

  // Enforces that X has a side for each size of the window, and is not empty except for its images.
  // A pool of the whole image takes fewer sides.
  void EnforceRank(const caffe2::Tensor& x) {
    const int sides = static_cast<int>(kernel_.size());
    CAFFE_ENFORCE(x.dim() == sides + 2 || (global_pooling_ && x.dim() > 1 && x.dim() < sides + 2),
                  type(), ": X of shape ", x.sizes(), " must have ", sides + 2,
                  " dimensions for a kernel of ", sides);
    CAFFE_ENFORCE(x.size_from_dim(1) > 0, type(), ": X of shape ", x.sizes(),
                  " must have channels and positions");
  }

  // Enforces that the window fits into each side of X with its padding.
  void EnforceWindow(const caffe2::Tensor& x) {
    const size_t sides = kernel_.size();
    for (size_t i = 0; i < sides; ++i) {
      const int64_t side = x.dim(i + (channels_last() ? 1 : 2)) + pads_[i] + pads_[i + sides];
      const int64_t window = int64_t{dilation_[i]} * (kernel_[i] - 1) + 1;
      CAFFE_ENFORCE(window <= side, type(), ": a window of ", window, " does not fit X of shape ",
                    x.sizes(), ", whose side is ", side, " with its padding");
    }
  }

  StockOperator stock_;
  const bool plain_;
};

}  // namespace detectron_ext
