// AffineChannelClip: AffineChannel with a fixed scale and bias, and Clip, in one pass over the map.
#include <string>
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/affine_channel_clip.h"
#include "operators/checks.h"
#include "operators/clip_range.h"
#include "operators/gradient_definition.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class AffineChannelClipBase : public Operator<CPUContext> {
 public:
  AffineChannelClipBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace), range_(ClipRangeArguments(*this)) {}

 protected:
  // Enforces that `name`, the tensor `x`, has channels, and that scale has one number for each.
  AffineChannelShape CheckedShape(const char* name, const Tensor& x, const Tensor& scale) {
    CAFFE_ENFORCE_GE(x.dim(), 2, type(), ": ", name, " of shape ", x.sizes(), " has no channels");
    EnforceShape(type(), "scale", scale, {x.dim(1)}, name, x);
    return {x.dim(0), x.dim(1), x.size_from_dim(2)};
  }

  const ClipRange range_;
};

// Inputs X, scale and bias; output Y, which may be in place.
class AffineChannelClipOp final : public AffineChannelClipBase {
 public:
  using AffineChannelClipBase::AffineChannelClipBase;

  bool RunOnDevice() override {
    const Tensor& x = Input(0);
    const AffineChannelShape shape = CheckedShape("X", x, Input(1));
    EnforceShape(type(), "bias", Input(2), {shape.channels}, "X", x);
    auto* y = Output(0, x.sizes(), at::dtype<float>());
    AffineChannelClip(x.data<float>(), Input(1).data<float>(), Input(2).data<float>(), shape,
                      range_, y->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs Y, scale and dY; output dX, which may be in place of dY.
class AffineChannelClipGradientOp final : public AffineChannelClipBase {
 public:
  using AffineChannelClipBase::AffineChannelClipBase;

  bool RunOnDevice() override {
    const Tensor& y = Input(0);
    const Tensor& dy = Input(2);
    const AffineChannelShape shape = CheckedShape("Y", y, Input(1));
    EnforceSameShape(type(), "d_Y", dy, "Y", y);
    auto* dx = Output(0, y.sizes(), at::dtype<float>());
    AffineChannelClipGradient(y.data<float>(), dy.data<float>(), Input(1).data<float>(), shape,
                              range_, dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(AffineChannelClip, detectron_ext::AffineChannelClipOp);
REGISTER_CPU_OPERATOR(AffineChannelClipGradient, detectron_ext::AffineChannelClipGradientOp);

namespace {

OpSchema& DescribeLimits(OpSchema& schema) {
  return schema
      .Arg("min", "(float, default the lowest finite float) results below it become this number.")
      .Arg("max", "(float, default the highest finite float) results above it become this number.");
}

}  // namespace

OPERATOR_SCHEMA(AffineChannelClip)
    .NumInputs(3)
    .NumOutputs(1)
    .AllowInplace({{0, 0}})
    .IdenticalTypeAndShapeOfInput(0)
    .SetDoc(R"DOC(
A scale and a bias for every channel c, then limits:

  Y[:, c] = min(max(scale[c] * X[:, c] + bias[c], min), max)

The results are those of AffineChannel, with a scale and a bias that do not train, followed by Clip.
One pass over the map replaces two. If X is empty, Y is empty. A NaN stays NaN. There is no CUDA
implementation: on CUDA use the two operators, as detectron_ext.ops.affine_channel_clip does.
)DOC")
    .FillUsing(DescribeLimits)
    .Input(0, "X", "Map, (N, C, ...) float32. It may have any number of further axes.")
    .Input(1, "scale", "Factors, (C) float32. They get no gradient.")
    .Input(2, "bias", "Numbers to add, (C) float32. They get no gradient.")
    .Output(0, "Y", "Result, float32, shaped as X. It may overwrite X.");

OPERATOR_SCHEMA(AffineChannelClipGradient)
    .NumInputs(3)
    .NumOutputs(1)
    .AllowInplace({{2, 0}})
    .IdenticalTypeAndShapeOfInput(0)
    .SetDoc(R"DOC(
Gradient of AffineChannelClip for X: scale[c] * d_Y where min < Y < max, otherwise 0. The arguments
must be those of AffineChannelClip. If Y is empty, d_X is empty.
)DOC")
    .FillUsing(DescribeLimits)
    .Input(0, "Y", "Output of AffineChannelClip, (N, C, ...) float32.")
    .Input(1, "scale", "Factors, (C) float32.")
    .Input(2, "d_Y", "Gradient of Y, float32, shaped as Y.")
    .Output(0, "d_X", "Gradient of X, float32, shaped as Y. It may overwrite d_Y.");

namespace {

class GetAffineChannelClipGradient : public GradientMakerBase {
  using GradientMakerBase::GradientMakerBase;
  std::vector<OperatorDef> GetGradientDefs() override {
    return detectron_ext::GradientDefinition("AffineChannelClipGradient",
                                             std::vector<std::string>{O(0), I(1), GO(0)},
                                             std::vector<std::string>{GI(0)});
  }
};

}  // namespace

REGISTER_GRADIENT(AffineChannelClip, GetAffineChannelClipGradient);

}  // namespace caffe2
