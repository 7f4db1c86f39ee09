// MaxPool and its gradient on all threads. Caffe2's own use one thread.
//
// It does only two-dimensional NCHW pooling. In all other cases Caffe2's own operator runs.
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/max_pool.h"
#include "operators/checks.h"
#include "operators/conv_pool_override.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class MaxPoolBase : public ConvPoolOverride {
 public:
  using ConvPoolOverride::ConvPoolOverride;

 protected:
  bool Covers(const Tensor&) override {
    return !global_pooling_ && dilation_[0] == 1 && dilation_[1] == 1 && pads_[0] < kernel_[0] &&
        pads_[1] < kernel_[1] && pads_[2] < kernel_[0] && pads_[3] < kernel_[1];
  }

  // Returns the shape of Y.
  std::vector<int64_t> PooledSizes() {
    const Tensor& x = Input(0);
    return GetOutputSize(x, x.dim(channels_last() ? x.dim() - 1 : 1));
  }

  PoolShape Shape(const std::vector<int64_t>& pooled_sizes) {
    const Tensor& x = Input(0);
    const PoolAxis h{x.dim(2), pooled_sizes[2], kernel_[0], stride_[0], pads_[0]};
    const PoolAxis w{x.dim(3), pooled_sizes[3], kernel_[1], stride_[1], pads_[1]};
    return {x.dim(0) * x.dim(1), h, w};
  }
};

// Input X; output Y.
class MaxPoolOp final : public MaxPoolBase {
 public:
  MaxPoolOp(const OperatorDef& definition, Workspace* workspace)
      : MaxPoolBase(definition, workspace, "MaxPool2D") {}

 private:
  void RunFast() override {
    const std::vector<int64_t> sizes = PooledSizes();
    auto* y = Output(0, sizes, at::dtype<float>());
    MaxPool(Input(0).data<float>(), Shape(sizes), y->template mutable_data<float>(), ThreadPoolFor);
  }
};

// Inputs X, Y, dY; output dX.
class MaxPoolGradientOp final : public MaxPoolBase {
 public:
  MaxPoolGradientOp(const OperatorDef& definition, Workspace* workspace)
      : MaxPoolBase(definition, workspace, "MaxPool2DGradient") {}

 private:
  void EnforceInputs(const Tensor& x) override {
    const std::vector<int64_t> sizes = PooledSizes();
    EnforceShape(type(), "Y", Input(1), sizes, "X", x);
    EnforceShape(type(), "dY", Input(2), sizes, "X", x);
  }

  void RunFast() override {
    const Tensor& x = Input(0);
    const std::vector<int64_t> sizes = PooledSizes();
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    MaxPoolGradient(x.data<float>(), Input(1).data<float>(), Input(2).data<float>(), Shape(sizes),
                    dx->template mutable_data<float>(), ThreadPoolFor);
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(MaxPool, detectron_ext::MaxPoolOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(MaxPoolGradient, detectron_ext::MaxPoolGradientOp);

}  // namespace caffe2
