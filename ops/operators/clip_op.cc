// Clip and ClipGradient on all threads. Caffe2's own use one thread.
#include <caffe2/core/operator.h>

#include "kernels/clip.h"
#include "operators/checks.h"
#include "operators/clip_range.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class ClipBase : public Operator<CPUContext> {
 public:
  ClipBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace), range_(ClipRangeArguments(*this)) {}

 protected:
  const ClipRange range_;
};

// Input X; output Y, which may be in place.
class ClipOp final : public ClipBase {
 public:
  using ClipBase::ClipBase;

  bool RunOnDevice() override {
    const Tensor& x = Input(0);
    auto* y = Output(0, x.sizes(), at::dtype<float>());
    Clip(x.data<float>(), range_, x.numel(), y->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs Y and dY; output dX, which may be in place of dY.
class ClipGradientOp final : public ClipBase {
 public:
  using ClipBase::ClipBase;

  bool RunOnDevice() override {
    const Tensor& y = Input(0);
    const Tensor& dy = Input(1);
    EnforceSameShape(type(), "dY", dy, "Y", y);
    auto* dx = Output(0, y.sizes(), at::dtype<float>());
    ClipGradient(y.data<float>(), dy.data<float>(), range_, y.numel(),
                 dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(Clip, detectron_ext::ClipOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(ClipGradient, detectron_ext::ClipGradientOp);

}  // namespace caffe2
