// GroupSpatialSoftmax, SoftmaxFocalLoss and their gradients on the CPU, where Detectron has no
// implementation.
#include <string>

#include <caffe2/core/operator.h>

#include "kernels/group_softmax.h"
#include "kernels/softmax_focal_loss.h"
#include "operators/checks.h"
#include "operators/focal_loss_base.h"
#include "operators/loss_on_cpu.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorBase;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

// Enforces that the argument `order`, which Detectron's operators have, is NCHW.
void EnforceChannelsFirst(const OperatorBase& op) {
  const std::string order = op.GetSingleArgument<std::string>("order", "NCHW");
  CAFFE_ENFORCE(order == "NCHW", op.type(), ": order is ", order, "; it must be NCHW");
}

class GroupSpatialSoftmaxBase : public Operator<CPUContext> {
 public:
  GroupSpatialSoftmaxBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        classes_(GetSingleArgument<int>("num_classes", 81)) {
    CAFFE_ENFORCE(classes_ > 0, type(), ": num_classes is ", classes_, "; it must be above 0");
    EnforceChannelsFirst(*this);
  }

 protected:
  // Enforces that the channels of x form whole groups. name: the name of x in messages.
  GroupedShape CheckedShape(const char* name, const Tensor& x) {
    EnforceDimensions(type(), name, x, 4);
    CAFFE_ENFORCE(x.dim(1) % classes_ == 0, type(), ": ", name, " of shape ", x.sizes(),
                  " cannot be cut into groups of ", classes_, " channels");
    return {x.dim(0) * x.dim(1) / classes_, classes_, x.dim(2) * x.dim(3)};
  }

 private:
  const int classes_;
};

// Input X; output the probabilities.
class GroupSpatialSoftmaxOp final : public GroupSpatialSoftmaxBase {
 public:
  using GroupSpatialSoftmaxBase::GroupSpatialSoftmaxBase;

  bool RunOnDevice() override {
    const GroupedShape shape = CheckedShape("X", Input(0));
    auto* p = Output(0, Input(0).sizes(), at::dtype<float>());
    GroupSoftmax(Input(0).data<float>(), shape, p->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs the probabilities and their gradient; output dX.
class GroupSpatialSoftmaxGradientOp final : public GroupSpatialSoftmaxBase {
 public:
  using GroupSpatialSoftmaxBase::GroupSpatialSoftmaxBase;

  bool RunOnDevice() override {
    const Tensor& p = Input(0);
    const GroupedShape shape = CheckedShape("probabilities", p);
    EnforceSameShape(type(), "d_probabilities", Input(1), "probabilities", p);
    auto* dx = Output(0, p.sizes(), at::dtype<float>());
    GroupSoftmaxGradient(p.data<float>(), Input(1).data<float>(), shape,
                         dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Labels are -1 for ignored, 0 for background, and 1 to classes - 1.
class SoftmaxFocalBase : public FocalBase<CPUContext> {
 public:
  SoftmaxFocalBase(const OperatorDef& definition, Workspace* workspace)
      : FocalBase<CPUContext>(/*default_classes=*/81, definition, workspace) {
    EnforceChannelsFirst(*this);
  }

 protected:
  // Enforces the shapes of X, T and fg_num.
  GroupedShape CheckedShape() {
    CheckFocalInputs();
    const Tensor& labels = Input(1);
    return {labels.dim(0) * labels.dim(1), classes_, labels.dim(2) * labels.dim(3)};
  }
};

// Inputs X, T, fg_num; outputs the loss, a scalar, and the probabilities.
class SoftmaxFocalLossOp final : public SoftmaxFocalBase {
 public:
  using SoftmaxFocalBase::SoftmaxFocalBase;

  bool RunOnDevice() override {
    const GroupedShape shape = CheckedShape();
    const int32_t* const labels = CheckedLabels(classes_ - 1);
    auto* p = Output(1, Input(0).sizes(), at::dtype<float>());
    float* const p_data = p->template mutable_data<float>();
    GroupSoftmax(Input(0).data<float>(), shape, p_data, ThreadPoolFor);
    const double sum =
        SoftmaxFocalLoss(p_data, labels, shape, SoftmaxFocal{Parameters()}, ThreadPoolFor);
    return WriteLoss(this, scale_ * sum);
  }
};

// Inputs X, T, fg_num, the probabilities and the gradient of the loss; output d_X.
class SoftmaxFocalLossGradientOp final : public SoftmaxFocalBase {
 public:
  using SoftmaxFocalBase::SoftmaxFocalBase;

  bool RunOnDevice() override {
    const GroupedShape shape = CheckedShape();
    const int32_t* const labels = CheckedLabels(classes_ - 1);
    const Tensor& p = Input(3);
    // Detectron's CUDA operator returns the probabilities as a vector.
    CAFFE_ENFORCE(p.numel() == Input(0).numel(), type(), ": probabilities of shape ", p.sizes(),
                  " must have as many elements as X of shape ", Input(0).sizes());
    const float factor = scale_ * LossGradient(this);
    SoftmaxFocalLossGradient(p.data<float>(), labels, shape, SoftmaxFocal{Parameters()}, factor,
                             PredictionGradient(this), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(GroupSpatialSoftmax, detectron_ext::GroupSpatialSoftmaxOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(GroupSpatialSoftmaxGradient,
                                    detectron_ext::GroupSpatialSoftmaxGradientOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SoftmaxFocalLoss, detectron_ext::SoftmaxFocalLossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SoftmaxFocalLossGradient,
                                    detectron_ext::SoftmaxFocalLossGradientOp);

}  // namespace caffe2
