// AffineChannel and its gradient on all threads. Caffe2's own use one thread.
#include <caffe2/core/operator.h>

#include "kernels/affine_channel.h"
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

class AffineChannelBase : public Operator<CPUContext> {
 public:
  AffineChannelBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        is_learnable_(GetSingleArgument<bool>("is_learnable", false)),
        channels_last_(ChannelsLastArgument(*this)) {}

 protected:
  // Enforces that scale has one number for each channel of x. Returns the kernel's view of x.
  AffineChannelShape CheckedShape(const Tensor& x, const Tensor& scale) {
    const int64_t channels = CheckedChannels(type(), x, channels_last_);
    CAFFE_ENFORCE_EQ(scale.numel(), channels, type(), ": scale of shape ", scale.sizes(),
                     " does not fit X of shape ", x.sizes());
    if (channels_last_) {
      return {x.size_to_dim(x.dim() - 1), channels, 1};
    }
    return {x.dim(0), channels, x.size_from_dim(2)};
  }

  const bool is_learnable_;

 private:
  const bool channels_last_;
};

// Inputs X, scale, bias; output Y. It may run in place unless scale and bias are learnt.
class AffineChannelOp final : public AffineChannelBase {
 public:
  using AffineChannelBase::AffineChannelBase;

  bool RunOnDevice() override {
    CAFFE_ENFORCE(!is_learnable_ || !IsInputOutputAlias(0, 0), type(),
                  ": cannot run in place if is_learnable is set");
    const Tensor& x = Input(0);
    const AffineChannelShape shape = CheckedShape(x, Input(1));
    CAFFE_ENFORCE_EQ(Input(2).numel(), shape.channels, type(), ": bias of shape ", Input(2).sizes(),
                     " does not fit X of shape ", x.sizes());
    auto* y = Output(0, x.sizes(), at::dtype<float>());
    AffineChannel(x.data<float>(), Input(1).data<float>(), Input(2).data<float>(), shape,
                  y->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs dY and scale; output dX. If scale and bias are learnt: inputs dY, X and scale; outputs dX,
// dscale and dbias.
class AffineChannelGradientOp final : public AffineChannelBase {
 public:
  using AffineChannelBase::AffineChannelBase;

  bool RunOnDevice() override {
    const Tensor& dy = Input(0);
    const Tensor& scale = Input(is_learnable_ ? 2 : 1);
    const AffineChannelShape shape = CheckedShape(dy, scale);
    if (is_learnable_) {
      const Tensor& x = Input(1);
      EnforceSameShape(type(), "dY", dy, "X", x);
      auto* dscale = Output(1, scale.sizes(), at::dtype<float>());
      auto* dbias = Output(2, scale.sizes(), at::dtype<float>());
      AffineChannelParameterGradient(dy.data<float>(), x.data<float>(), shape,
                                     dscale->template mutable_data<float>(),
                                     dbias->template mutable_data<float>(), ThreadPoolFor);
    }
    // This comes last because dX may be written in place of dY.
    auto* dx = Output(0, dy.sizes(), at::dtype<float>());
    AffineChannel(dy.data<float>(), scale.data<float>(), nullptr, shape,
                  dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(AffineChannel, detectron_ext::AffineChannelOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(AffineChannelGradient, detectron_ext::AffineChannelGradientOp);

}  // namespace caffe2
