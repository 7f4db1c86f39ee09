// What the replacements of Caffe2's convolution and pooling share: leaving to Caffe2's own operator
// what the faster implementation does not cover.
#pragma once

#include <memory>

#include <caffe2/core/operator.h>
#include <caffe2/operators/conv_pool_op_base.h>

namespace detectron_ext {

class ConvPoolOverride : public caffe2::ConvPoolOpBase<caffe2::CPUContext> {
 public:
  // twin: another type under which Caffe2 registers the same implementation, such as Conv2D for
  // Conv.
  ConvPoolOverride(
      const caffe2::OperatorDef& definition, caffe2::Workspace* workspace, const char* twin)
      : ConvPoolOpBase<caffe2::CPUContext>(definition, workspace),
        definition_(definition),
        workspace_(workspace),
        twin_(twin),
        plain_(
            order_ == caffe2::StorageOrder::NCHW && kernel_.size() == 2 &&
            legacy_pad_ == caffe2::LegacyPadding::NOTSET) {
    for (const int stride : stride_) {
      CAFFE_ENFORCE(stride > 0, type(), ": a stride is ", stride, ", must be above 0");
    }
  }

  bool RunOnDevice() override {
    const caffe2::Tensor& x = Input(0);
    if (!plain_ || x.dim() != 4 || !x.IsType<float>() || !Covers(x)) {
      return RunStock();
    }
    RunFast();
    return true;
  }

 protected:
  // Whether RunFast takes a float (N, C, H, W) input, given NCHW windows without legacy padding.
  virtual bool Covers(const caffe2::Tensor& x) = 0;
  virtual void RunFast() = 0;

 private:
  bool RunStock() {
    if (!stock_) {
      stock_ = caffe2::CPUOperatorRegistry()->Create(twin_, definition_, workspace_);
    }
    return stock_->Run();
  }

  const caffe2::OperatorDef definition_;
  caffe2::Workspace* const workspace_;
  const char* const twin_;
  const bool plain_;
  std::unique_ptr<caffe2::OperatorBase> stock_;
};

}  // namespace detectron_ext
