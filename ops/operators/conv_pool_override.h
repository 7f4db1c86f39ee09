// What the replacements of Caffe2's convolution and pooling share: Caffe2's own operator runs for
// all cases that the faster implementation does not cover.
#pragma once

#include <caffe2/core/operator.h>
#include <caffe2/operators/conv_pool_op_base.h>

#include "operators/stock_operator.h"

namespace detectron_ext {

class ConvPoolOverride : public caffe2::ConvPoolOpBase<caffe2::CPUContext> {
 public:
  // twin: as in StockOperator.
  ConvPoolOverride(const caffe2::OperatorDef& definition, caffe2::Workspace* workspace,
                   const char* twin)
      : ConvPoolOpBase<caffe2::CPUContext>(definition, workspace),
        stock_(definition, workspace, twin),
        plain_(order_ == caffe2::StorageOrder::NCHW && kernel_.size() == 2 &&
               legacy_pad_ == caffe2::LegacyPadding::NOTSET) {
    for (const int stride : stride_) {
      CAFFE_ENFORCE(stride > 0, type(), ": a stride is ", stride, "; it must be above 0");
    }
  }

  bool RunOnDevice() override {
    const caffe2::Tensor& x = Input(0);
    if (!plain_ || x.dim() != 4 || !x.IsType<float>() || !Covers(x)) {
      return stock_.Run();
    }
    RunFast();
    return true;
  }

 protected:
  // Returns whether RunFast can run for input x. It is called only if x is a float tensor
  // (N, C, H, W), the order is NCHW, windows are two-dimensional and there is no legacy padding.
  virtual bool Covers(const caffe2::Tensor& x) = 0;
  // Computes all outputs.
  virtual void RunFast() = 0;

 private:
  StockOperator stock_;
  const bool plain_;
};

}  // namespace detectron_ext
