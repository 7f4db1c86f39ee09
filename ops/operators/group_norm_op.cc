// GroupNorm and its gradient on all threads. Caffe2's own use one thread.
#include <vector>

#include <ATen/ATen.h>
#include <caffe2/core/operator.h>

#include "kernels/group_norm.h"
#include "operators/arguments.h"
#include "operators/below_autograd.h"
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

class GroupNormBase : public Operator<CPUContext> {
 public:
  GroupNormBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        group_(GetSingleArgument<int>("group", 32)),
        channels_last_(ChannelsLastArgument(*this)) {
    CAFFE_ENFORCE(group_ > 0, type(), ": group is ", group_, "; it must be above 0");
  }

 protected:
  // Enforces the shapes. Returns the kernel's view of x.
  GroupNormShape CheckedShape(const Tensor& x, const Tensor& gamma, const Tensor& beta) {
    const int64_t channels = CheckedChannels(type(), x, channels_last_);
    CAFFE_ENFORCE_EQ(channels % group_, 0, type(), ": X of shape ", x.sizes(),
                     " cannot be cut into ", group_, " groups of channels");
    CAFFE_ENFORCE(gamma.numel() == channels && beta.numel() == channels, type(),
                  ": gamma of shape ", gamma.sizes(), " and beta of shape ", beta.sizes(),
                  " do not fit X of shape ", x.sizes());
    const int64_t plane = channels_last_ ? x.size_between_dim(0, x.dim() - 1) : x.size_from_dim(2);
    return {x.dim(0), group_, channels / group_, plane};
  }

  // The kernel needs channels first. An NHWC tensor is copied to (N, C, positions) before the
  // kernel runs, and the result is copied back. An NCHW tensor is used as it is.

  // Returns x with channels first: a copy, or x itself.
  at::Tensor ChannelsFirst(const Tensor& x) {
    return channels_last_ ? Positions(x).transpose(1, 2).contiguous() : at::Tensor(x);
  }

  // Returns where the kernel writes a result shaped as `like`: new memory, or `like` itself.
  at::Tensor EmptyChannelsFirst(const Tensor& like) {
    return channels_last_ ? at::empty_like(ChannelsFirst(like)) : at::Tensor(like);
  }

  // Copies what EmptyChannelsFirst returned to the output `to`, unless they are the same.
  void CopyFromChannelsFirst(const at::Tensor& from, Tensor* to) {
    if (channels_last_) {
      Positions(*to).copy_(from.transpose(1, 2));
    }
  }

 private:
  // Returns a channels-last tensor as (N, positions, C).
  static at::Tensor Positions(const Tensor& x) {
    const int last = x.dim() - 1;
    return at::Tensor(x).view({x.dim(0), x.size_between_dim(0, last), x.dim(last)});
  }

  const int group_;
  const bool channels_last_;
};

// Inputs X, gamma, beta; outputs Y and, for training, the mean and the inverse standard deviation,
// both (N, group).
class GroupNormOp final : public GroupNormBase {
 public:
  GroupNormOp(const OperatorDef& definition, Workspace* workspace)
      : GroupNormBase(definition, workspace),
        epsilon_(GetSingleArgument<float>("epsilon", 1e-5f)) {}

  bool RunOnDevice() override {
    const BelowAutograd below_autograd;
    const Tensor& x = Input(0);
    const GroupNormShape shape = CheckedShape(x, Input(1), Input(2));
    auto* y = Output(0, x.sizes(), at::dtype<float>());
    y->template mutable_data<float>();
    std::vector<float> unused(OutputSize() == 3 ? 0 : 2 * shape.images * shape.groups);
    float* mean = unused.data();
    float* inverse_std = unused.data() + unused.size() / 2;
    if (OutputSize() == 3) {
      const std::vector<int64_t> sizes{shape.images, shape.groups};
      mean = Output(1, sizes, at::dtype<float>())->template mutable_data<float>();
      inverse_std = Output(2, sizes, at::dtype<float>())->template mutable_data<float>();
    }
    const at::Tensor from = ChannelsFirst(x);
    const at::Tensor to = EmptyChannelsFirst(*y);
    GroupNorm(from.data_ptr<float>(), Input(1).data<float>(), Input(2).data<float>(), shape,
              epsilon_, to.data_ptr<float>(), mean, inverse_std, ThreadPoolFor);
    CopyFromChannelsFirst(to, y);
    return true;
  }

 private:
  const float epsilon_;
};

// Inputs dY, X, gamma, beta, mean, inverse standard deviation; outputs dX, dgamma, dbeta.
class GroupNormGradientOp final : public GroupNormBase {
 public:
  using GroupNormBase::GroupNormBase;

  bool RunOnDevice() override {
    const BelowAutograd below_autograd;
    const Tensor& dy = Input(0);
    const Tensor& x = Input(1);
    const Tensor& gamma = Input(2);
    const GroupNormShape shape = CheckedShape(x, gamma, Input(3));
    EnforceSameShape(type(), "dY", dy, "X", x);
    for (const int i : {4, 5}) {
      CAFFE_ENFORCE_EQ(Input(i).numel(), shape.images * shape.groups, type(), ": input ", i,
                       " of shape ", Input(i).sizes(), " does not fit X of shape ", x.sizes());
    }
    const at::Tensor slopes = ChannelsFirst(dy);
    const at::Tensor from = ChannelsFirst(x);
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    dx->template mutable_data<float>();
    auto* dgamma = Output(1, gamma.sizes(), at::dtype<float>());
    auto* dbeta = Output(2, gamma.sizes(), at::dtype<float>());
    const at::Tensor to = EmptyChannelsFirst(*dx);
    GroupNormGradient(slopes.data_ptr<float>(), from.data_ptr<float>(), gamma.data<float>(),
                      Input(4).data<float>(), Input(5).data<float>(), shape, to.data_ptr<float>(),
                      dgamma->template mutable_data<float>(), dbeta->template mutable_data<float>(),
                      ThreadPoolFor);
    CopyFromChannelsFirst(to, dx);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(GroupNorm, detectron_ext::GroupNormOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(GroupNormGradient, detectron_ext::GroupNormGradientOp);

}  // namespace caffe2
