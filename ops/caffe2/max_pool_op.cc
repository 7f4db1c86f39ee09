// MaxPool and its gradient on all threads; Caffe2's own use one.
//
// Two-dimensional NCHW pooling only: anything else runs on Caffe2's own operator.
#include <vector>

#include <caffe2/core/operator.h>
#include <caffe2/operators/conv_pool_op_base.h>

#include "caffe2/registration.h"
#include "caffe2/stock_operator.h"
#include "caffe2/threads.h"
#include "kernels/max_pool.h"

namespace detectron_ext {
namespace {

using caffe2::ConvPoolOpBase;
using caffe2::CPUContext;
using caffe2::OperatorDef;
using caffe2::StorageOrder;
using caffe2::Tensor;
using caffe2::Workspace;

class MaxPoolBase : public ConvPoolOpBase<CPUContext> {
 public:
  // twin: as in StockOperator.
  MaxPoolBase(const OperatorDef& definition, Workspace* workspace, const char* twin)
      : ConvPoolOpBase<CPUContext>(definition, workspace),
        stock_(definition, workspace, twin),
        eligible_(
            order_ == StorageOrder::NCHW && kernel_.size() == 2 && !global_pooling_ &&
            legacy_pad_ == caffe2::LegacyPadding::NOTSET && dilation_[0] == 1 &&
            dilation_[1] == 1 && pads_[0] < kernel_[0] && pads_[1] < kernel_[1] &&
            pads_[2] < kernel_[0] && pads_[3] < kernel_[1]) {}

  bool RunOnDevice() override {
    const Tensor& x = Input(0);
    if (!eligible_ || x.dim() != 4 || !x.IsType<float>()) {
      return stock_.Run();
    }
    const std::vector<int64_t> out = GetOutputSize(x, x.dim(1));
    const PoolAxis h{x.dim(2), out[2], kernel_[0], stride_[0], pads_[0]};
    const PoolAxis w{x.dim(3), out[3], kernel_[1], stride_[1], pads_[1]};
    RunFast({x.dim(0) * x.dim(1), h, w}, out);
    return true;
  }

 protected:
  virtual void RunFast(const PoolShape& shape, const std::vector<int64_t>& out_sizes) = 0;

 private:
  StockOperator stock_;
  const bool eligible_;
};

// Input X; output Y.
class MaxPoolOp final : public MaxPoolBase {
 public:
  MaxPoolOp(const OperatorDef& definition, Workspace* workspace)
      : MaxPoolBase(definition, workspace, "MaxPool2D") {}

 private:
  void RunFast(const PoolShape& shape, const std::vector<int64_t>& out_sizes) override {
    auto* y = Output(0, out_sizes, at::dtype<float>());
    MaxPool(
        Input(0).data<float>(), shape, y->template mutable_data<float>(), ThreadPoolFor);
  }
};

// Inputs X, Y, dY; output dX.
class MaxPoolGradientOp final : public MaxPoolBase {
 public:
  MaxPoolGradientOp(const OperatorDef& definition, Workspace* workspace)
      : MaxPoolBase(definition, workspace, "MaxPool2DGradient") {}

 private:
  void RunFast(const PoolShape& shape, const std::vector<int64_t>& out_sizes) override {
    const Tensor& x = Input(0);
    for (const int i : {1, 2}) {
      CAFFE_ENFORCE(
          Input(i).sizes() == at::IntArrayRef(out_sizes), type(), ": ", i == 1 ? "Y" : "dY",
          " of shape ", Input(i).sizes(), " does not fit X of shape ", x.sizes());
    }
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    MaxPoolGradient(
        x.data<float>(), Input(1).data<float>(), Input(2).data<float>(), shape,
        dx->template mutable_data<float>(), ThreadPoolFor);
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(MaxPool, detectron_ext::MaxPoolOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(MaxPoolGradient, detectron_ext::MaxPoolGradientOp);

}  // namespace caffe2
