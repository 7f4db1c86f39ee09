// Relu, ReluGradient and Sum on all threads. Caffe2's own use one thread.
#include <vector>

#include <caffe2/core/operator.h>
#include <caffe2/operators/utility_ops.h>

#include "kernels/elementwise.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::Tensor;

// Input X; output Y, which may be in place.
class ReluOp final : public Operator<CPUContext> {
 public:
  using Operator<CPUContext>::Operator;

  bool RunOnDevice() override {
    const Tensor& x = Input(0);
    auto* y = Output(0, x.sizes(), at::dtype<float>());
    Relu(x.data<float>(), x.numel(), y->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs Y and dY; output dX, which may be in place of dY.
class ReluGradientOp final : public Operator<CPUContext> {
 public:
  using Operator<CPUContext>::Operator;

  bool RunOnDevice() override {
    const Tensor& y = Input(0);
    const Tensor& dy = Input(1);
    CAFFE_ENFORCE_EQ(y.numel(), dy.numel(), type(), ": dY of shape ", dy.sizes(),
                     " does not fit Y of shape ", y.sizes());
    auto* dx = Output(0, y.sizes(), at::dtype<float>());
    ReluGradient(y.data<float>(), dy.data<float>(), y.numel(), dx->template mutable_data<float>(),
                 ThreadPoolFor);
    return true;
  }
};

// Inputs of one shape; output their sum, which may be in place of the first input. Caffe2's
// operator runs for other types than float.
class SumOp final : public caffe2::SumOp<CPUContext> {
 public:
  using caffe2::SumOp<CPUContext>::SumOp;

  bool RunOnDevice() override {
    if (InputSize() < 2 || !Input(0).IsType<float>()) {
      return caffe2::SumOp<CPUContext>::RunOnDevice();
    }
    const Tensor& first = Input(0);
    std::vector<const float*> terms;
    for (int i = 0; i < InputSize(); ++i) {
      CAFFE_ENFORCE(Input(i).sizes() == first.sizes(), type(), ": input ", i, " of shape ",
                    Input(i).sizes(), " does not fit input 0 of shape ", first.sizes());
      terms.push_back(Input(i).data<float>());
    }
    const int64_t size = first.numel();
    auto* sum = Output(0, first.sizes(), at::dtype<float>());
    Add(terms.data(), InputSize(), size, sum->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(Relu, detectron_ext::ReluOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(ReluGradient, detectron_ext::ReluGradientOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(Sum, detectron_ext::SumOp);

}  // namespace caffe2
