// UpsampleNearest and its gradient on the CPU. Detectron's UpsampleNearest is slow there, and it
// has no gradient.
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/upsample_nearest.h"
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

class UpsampleNearestBase : public Operator<CPUContext> {
 public:
  UpsampleNearestBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace), scale_(GetSingleArgument<int>("scale", 2)) {
    CAFFE_ENFORCE(scale_ >= 1, type(), ": scale is ", scale_, "; it must be at least 1");
  }

 protected:
  // Enforces the shape of x, the smaller tensor: (C, H, W) or (N, C, H, W).
  UpsampleShape CheckedShape(const Tensor& x) {
    CAFFE_ENFORCE(x.dim() == 3 || x.dim() == 4, type(), ": X of shape ", x.sizes(),
                  " must have 3 or 4 dimensions");
    return {x.size_to_dim(x.dim() - 1), x.dim(x.dim() - 1), scale_};
  }

  // Returns the shape of the larger tensor.
  std::vector<int64_t> LargeSizes(const Tensor& x) const {
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes[sizes.size() - 1] *= scale_;
    sizes[sizes.size() - 2] *= scale_;
    return sizes;
  }

 private:
  const int scale_;
};

// Input X; output Y.
class UpsampleNearestOp final : public UpsampleNearestBase {
 public:
  using UpsampleNearestBase::UpsampleNearestBase;

  bool RunOnDevice() override {
    const Tensor& x = Input(0);
    const UpsampleShape shape = CheckedShape(x);
    auto* y = Output(0, LargeSizes(x), at::dtype<float>());
    UpsampleNearest(x.data<float>(), shape, y->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs X and dY; output dX.
class UpsampleNearestGradientOp final : public UpsampleNearestBase {
 public:
  using UpsampleNearestBase::UpsampleNearestBase;

  bool RunOnDevice() override {
    const Tensor& x = Input(0);
    const Tensor& dy = Input(1);
    const UpsampleShape shape = CheckedShape(x);
    EnforceShape(type(), "dY", dy, LargeSizes(x), "X", x);
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    UpsampleNearestGradient(dy.data<float>(), shape, dx->template mutable_data<float>(),
                            ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(UpsampleNearest, detectron_ext::UpsampleNearestOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(UpsampleNearestGradient,
                                    detectron_ext::UpsampleNearestGradientOp);

}  // namespace caffe2
