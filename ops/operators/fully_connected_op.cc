// FC and its gradient, computed by register-blocked products. On an AMD processor these are three
// times as fast as the sgemm of Caffe2's MKL.
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/matrix_product.h"
#include "operators/checks.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

// Y = X W^T + b, where X counts as an m x k matrix and W as an n x k matrix.
struct FullyConnectedShape {
  int64_t m;
  int64_t n;
  int64_t k;
};

class FullyConnectedBase : public Operator<CPUContext> {
 public:
  FullyConnectedBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        axis_(GetSingleArgument<int>("axis", 1)),
        axis_w_(GetSingleArgument<int>("axis_w", 1)) {}

 protected:
  // Enforces that X and W have the same number of features.
  FullyConnectedShape CheckedShape() {
    const Tensor& x = Input(0);
    const Tensor& w = Input(1);
    const int axis = Axis();
    const int axis_w = w.canonical_axis_index(axis_w_);
    CAFFE_ENFORCE(x.size_from_dim(axis) == w.size_from_dim(axis_w), type(), ": W of shape ",
                  w.sizes(), " does not fit X of shape ", x.sizes());
    return {x.size_to_dim(axis), w.size_to_dim(axis_w), x.size_from_dim(axis)};
  }

  // Returns the first of the axes of X that hold features.
  int Axis() { return Input(0).canonical_axis_index(axis_); }

 private:
  const int axis_;
  const int axis_w_;
};

// Inputs X, W and b; output Y, whose shape is the leading dimensions of X, then n.
class FullyConnectedOp final : public FullyConnectedBase {
 public:
  using FullyConnectedBase::FullyConnectedBase;

  bool RunOnDevice() override {
    const FullyConnectedShape shape = CheckedShape();
    EnforceShape(type(), "b", Input(2), {shape.n}, "W", Input(1));
    std::vector<int64_t> sizes = Input(0).sizes().vec();
    sizes.resize(Axis());
    sizes.push_back(shape.n);
    auto* y = Output(0, sizes, at::dtype<float>());
    MultiplyMatrices({Input(0).data<float>(), shape.k, false},
                     {Input(1).data<float>(), shape.k, true}, shape.m, shape.n, shape.k,
                     Input(2).data<float>(), y->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs X, W and dY; outputs dW, db and, if it is asked for, dX.
class FullyConnectedGradientOp final : public FullyConnectedBase {
 public:
  using FullyConnectedBase::FullyConnectedBase;

  bool RunOnDevice() override {
    const FullyConnectedShape shape = CheckedShape();
    const Tensor& dy_tensor = Input(2);
    CAFFE_ENFORCE(dy_tensor.numel() == shape.m * shape.n, type(), ": dY of shape ",
                  dy_tensor.sizes(), " does not fit X of shape ", Input(0).sizes(),
                  " and W of shape ", Input(1).sizes());
    const float* const dy = dy_tensor.data<float>();
    auto* dw = Output(0, Input(1).sizes(), at::dtype<float>());
    auto* db = Output(1, {shape.n}, at::dtype<float>());
    MultiplyMatrices({dy, shape.n, true}, {Input(0).data<float>(), shape.k, false}, shape.n,
                     shape.k, shape.m, nullptr, dw->template mutable_data<float>(), ThreadPoolFor);
    SumRows(dy, shape.m, shape.n, db->template mutable_data<float>(), ThreadPoolFor);
    if (OutputSize() == 3) {
      auto* dx = Output(2, Input(0).sizes(), at::dtype<float>());
      MultiplyMatrices({dy, shape.n, false}, {Input(1).data<float>(), shape.k, false}, shape.m,
                       shape.k, shape.n, nullptr, dx->template mutable_data<float>(),
                       ThreadPoolFor);
    }
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(FC, detectron_ext::FullyConnectedOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(FCGradient, detectron_ext::FullyConnectedGradientOp);

}  // namespace caffe2
