// RoIPoolF, PSRoIPool and their gradients on the CPU, where Detectron has no implementation.
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/roi_pool.h"
#include "operators/arguments.h"
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

class RoiPoolBase : public Operator<CPUContext> {
 public:
  // h_argument, w_argument: the names of the arguments for the pooled height and width.
  RoiPoolBase(const OperatorDef& definition, Workspace* workspace, const char* h_argument,
              const char* w_argument)
      : Operator<CPUContext>(definition, workspace),
        scale_(PositiveArgument(*this, "spatial_scale", 1.0f)),
        pooled_h_(GetSingleArgument<int>(h_argument, 1)),
        pooled_w_(GetSingleArgument<int>(w_argument, 1)) {
    CAFFE_ENFORCE(pooled_h_ > 0 && pooled_w_ > 0, type(), ": ", h_argument, " is ", pooled_h_,
                  " and ", w_argument, " is ", pooled_w_, "; both must be above 0");
  }

 protected:
  // Enforces the shapes of X and RoIs, and that every region is usable.
  RoiPoolShape CheckedRegions() {
    const Tensor& x = Input(0);
    const Tensor& rois = Input(1);
    EnforceDimensions(type(), "X", x, 4);
    CAFFE_ENFORCE(rois.numel() == 0 || (rois.dim() == 2 && rois.dim(1) == 5), type(),
                  ": RoIs of shape ", rois.sizes(), " must be (R, 5)");
    const RoiPoolShape shape{x.dim(0),         x.dim(1),  x.dim(2),  x.dim(3),
                             rois.numel() / 5, pooled_h_, pooled_w_, scale_};
    const int64_t bad = FirstBadRoi(rois.data<float>(), shape);
    CAFFE_ENFORCE(bad < 0, type(), ": row ", bad, " of RoIs of shape ", rois.sizes(),
                  " names no image of X of shape ", x.sizes(), " or holds an unusable number");
    return shape;
  }

  static std::vector<int64_t> PooledSizes(const RoiPoolShape& shape, int64_t channels) {
    return {shape.rois, channels, shape.pooled_h, shape.pooled_w};
  }

 private:
  const float scale_;
  const int pooled_h_;
  const int pooled_w_;
};

// Inputs X and RoIs; outputs Y and the indices of the maxima, int32.
class RoiPoolFOp final : public RoiPoolBase {
 public:
  RoiPoolFOp(const OperatorDef& definition, Workspace* workspace)
      : RoiPoolBase(definition, workspace, "pooled_h", "pooled_w") {}

  bool RunOnDevice() override {
    const RoiPoolShape shape = CheckedRegions();
    const std::vector<int64_t> sizes = PooledSizes(shape, shape.channels);
    auto* y = Output(0, sizes, at::dtype<float>());
    auto* argmax = Output(1, sizes, at::dtype<int32_t>());
    RoiMaxPool(Input(0).data<float>(), Input(1).data<float>(), shape,
               y->template mutable_data<float>(), argmax->template mutable_data<int32_t>(),
               ThreadPoolFor);
    return true;
  }
};

// Inputs X, RoIs, the indices of the maxima and dY; output dX.
class RoiPoolFGradientOp final : public RoiPoolBase {
 public:
  RoiPoolFGradientOp(const OperatorDef& definition, Workspace* workspace)
      : RoiPoolBase(definition, workspace, "pooled_h", "pooled_w") {}

  bool RunOnDevice() override {
    const RoiPoolShape shape = CheckedRegions();
    const Tensor& x = Input(0);
    const std::vector<int64_t> sizes = PooledSizes(shape, shape.channels);
    EnforceShape(type(), "argmaxes", Input(2), sizes, "X", x);
    EnforceShape(type(), "dY", Input(3), sizes, "X", x);
    const int32_t* const argmax = Input(2).data<int32_t>();
    for (int64_t i = 0; i < Input(2).numel(); ++i) {
      CAFFE_ENFORCE(argmax[i] < shape.plane(), type(), ": argmaxes of shape ", Input(2).sizes(),
                    " hold ", argmax[i], ", outside X of shape ", x.sizes());
    }
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    RoiMaxPoolGradient(Input(1).data<float>(), argmax, Input(3).data<float>(), shape,
                       dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

class PsRoiPoolBase : public RoiPoolBase {
 public:
  PsRoiPoolBase(const OperatorDef& definition, Workspace* workspace)
      : RoiPoolBase(definition, workspace, "group_size", "group_size"),
        output_dim_(GetSingleArgument<int>("output_dim", 1)) {
    CAFFE_ENFORCE(output_dim_ > 0, type(), ": output_dim is ", output_dim_, "; it must be above 0");
  }

 protected:
  // Also enforces that X has channels of its own for every bin of every output.
  RoiPoolShape CheckedShape() {
    const RoiPoolShape shape = CheckedRegions();
    CAFFE_ENFORCE(shape.channels >= output_dim_ * shape.bins(), type(), ": X of shape ",
                  Input(0).sizes(), " has too few channels for output_dim ", output_dim_,
                  " and group_size ", shape.pooled_h);
    return shape;
  }

  const int output_dim_;
};

// Inputs X and RoIs; outputs Y and the channel of X that each element comes from, int32.
class PsRoiPoolOp final : public PsRoiPoolBase {
 public:
  using PsRoiPoolBase::PsRoiPoolBase;

  bool RunOnDevice() override {
    const RoiPoolShape shape = CheckedShape();
    const std::vector<int64_t> sizes = PooledSizes(shape, output_dim_);
    auto* y = Output(0, sizes, at::dtype<float>());
    auto* channels = Output(1, sizes, at::dtype<int32_t>());
    PositionSensitiveRoiPool(Input(0).data<float>(), Input(1).data<float>(), shape, output_dim_,
                             y->template mutable_data<float>(),
                             channels->template mutable_data<int32_t>(), ThreadPoolFor);
    return true;
  }
};

// Inputs X, RoIs, the channels (which Detectron calls argmaxes) and dY; output dX. The channels
// follow from the other inputs and are not read.
class PsRoiPoolGradientOp final : public PsRoiPoolBase {
 public:
  using PsRoiPoolBase::PsRoiPoolBase;

  bool RunOnDevice() override {
    const RoiPoolShape shape = CheckedShape();
    const Tensor& x = Input(0);
    const std::vector<int64_t> sizes = PooledSizes(shape, output_dim_);
    EnforceShape(type(), "argmaxes", Input(2), sizes, "X", x);
    EnforceShape(type(), "dY", Input(3), sizes, "X", x);
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    PositionSensitiveRoiPoolGradient(Input(1).data<float>(), Input(3).data<float>(), shape,
                                     output_dim_, dx->template mutable_data<float>(),
                                     ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(RoIPoolF, detectron_ext::RoiPoolFOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(RoIPoolFGradient, detectron_ext::RoiPoolFGradientOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(PSRoIPool, detectron_ext::PsRoiPoolOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(PSRoIPoolGradient, detectron_ext::PsRoiPoolGradientOp);

}  // namespace caffe2
