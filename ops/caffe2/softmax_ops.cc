// GroupSpatialSoftmax, SoftmaxFocalLoss and their gradients on the CPU, where Detectron has no
// implementation.
#include <algorithm>
#include <string>
#include <vector>

#include <caffe2/core/operator.h>

#include "caffe2/checks.h"
#include "caffe2/registration.h"
#include "caffe2/threads.h"
#include "kernels/group_softmax.h"
#include "kernels/softmax_focal_loss.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class GroupedBase : public Operator<CPUContext> {
 public:
  GroupedBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        num_classes_(GetSingleArgument<int>("num_classes", 81)) {
    CAFFE_ENFORCE(num_classes_ > 0, type(), ": num_classes is ", num_classes_);
    CAFFE_ENFORCE_EQ(
        GetSingleArgument<std::string>("order", "NCHW"), "NCHW", type(), ": order must be NCHW");
  }

 protected:
  // name: what the input is called.
  GroupedShape Shape(const char* name, const Tensor& x) {
    EnforceDimensions(type(), name, x, 4);
    CAFFE_ENFORCE_EQ(
        x.dim(1) % num_classes_, 0, type(), ": ", name, " of shape ", x.sizes(),
        " cannot be cut into groups of ", num_classes_, " channels");
    return {x.dim(0) * x.dim(1) / num_classes_, num_classes_, x.dim(2) * x.dim(3)};
  }

  const int num_classes_;
};

// Input X; output the probabilities.
class GroupSpatialSoftmaxOp final : public GroupedBase {
 public:
  using GroupedBase::GroupedBase;

  bool RunOnDevice() override {
    const GroupedShape shape = Shape("X", Input(0));
    auto* p = Output(0, Input(0).sizes(), at::dtype<float>());
    GroupSoftmax(
        Input(0).data<float>(), shape, p->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs the probabilities and their gradient; output dX.
class GroupSpatialSoftmaxGradientOp final : public GroupedBase {
 public:
  using GroupedBase::GroupedBase;

  bool RunOnDevice() override {
    const Tensor& p = Input(0);
    const GroupedShape shape = Shape("the probabilities", p);
    EnforceShape(type(), "their gradient", Input(1), p.sizes(), "the probabilities", p);
    auto* dx = Output(0, p.sizes(), at::dtype<float>());
    GroupSoftmaxGradient(
        p.data<float>(), Input(1).data<float>(), shape, dx->template mutable_data<float>(),
        ThreadPoolFor);
    return true;
  }
};

class SoftmaxFocalBase : public GroupedBase {
 public:
  SoftmaxFocalBase(const OperatorDef& definition, Workspace* workspace)
      : GroupedBase(definition, workspace),
        scale_(GetSingleArgument<float>("scale", 1.0f)),
        gamma_(GetSingleArgument<float>("gamma", 1.0f)),
        alpha_(GetSingleArgument<float>("alpha", 0.25f)) {
    CAFFE_ENFORCE(scale_ >= 0, type(), ": scale is ", scale_, ", must be at least 0");
    CAFFE_ENFORCE(gamma_ >= 0, type(), ": gamma is ", gamma_, ", must be at least 0");
  }

 protected:
  GroupedShape CheckedShape() {
    const Tensor& x = Input(0);
    const Tensor& labels = Input(1);
    const GroupedShape shape = Shape("X", x);
    EnforceShape(
        type(), "labels", labels, {x.dim(0), x.dim(1) / num_classes_, x.dim(2), x.dim(3)}, "X", x);
    EnforceOneNumber(type(), "fg_num", Input(2));
    const int32_t* const first = labels.data<int32_t>();
    const int32_t* const largest = std::max_element(first, first + labels.numel());
    CAFFE_ENFORCE(
        labels.numel() == 0 || *largest < num_classes_, type(), ": labels of shape ",
        labels.sizes(), " hold ", *largest, ", but X of shape ", x.sizes(), " has classes 0 to ",
        num_classes_ - 1);
    return shape;
  }

  SoftmaxFocal Focal() {
    const float normalizer = std::max(Input(2).data<float>()[0], 1.0f);
    return {gamma_, alpha_ / normalizer, (1.0f - alpha_) / normalizer};
  }

  const float scale_;

 private:
  const float gamma_;
  const float alpha_;
};

// Inputs X, labels, fg_num; outputs the loss, a scalar, and the probabilities.
class SoftmaxFocalLossOp final : public SoftmaxFocalBase {
 public:
  using SoftmaxFocalBase::SoftmaxFocalBase;

  bool RunOnDevice() override {
    const GroupedShape shape = CheckedShape();
    auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
    auto* p = Output(1, Input(0).sizes(), at::dtype<float>());
    float* const p_data = p->template mutable_data<float>();
    GroupSoftmax(Input(0).data<float>(), shape, p_data, ThreadPoolFor);
    const double sum =
        SoftmaxFocalLoss(p_data, Input(1).data<int32_t>(), shape, Focal(), ThreadPoolFor);
    *loss->template mutable_data<float>() = static_cast<float>(scale_ * sum);
    return true;
  }
};

// Inputs X, labels, fg_num, probabilities and the gradient of the loss; output dX.
class SoftmaxFocalLossGradientOp final : public SoftmaxFocalBase {
 public:
  using SoftmaxFocalBase::SoftmaxFocalBase;

  bool RunOnDevice() override {
    const GroupedShape shape = CheckedShape();
    const Tensor& x = Input(0);
    CAFFE_ENFORCE_EQ(
        Input(3).numel(), x.numel(), type(), ": probabilities of shape ", Input(3).sizes(),
        " do not fit X of shape ", x.sizes());
    EnforceOneNumber(type(), "the gradient of the loss", Input(4));
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    SoftmaxFocalLossGradient(
        Input(3).data<float>(), Input(1).data<int32_t>(), shape, Focal(),
        scale_ * Input(4).data<float>()[0], dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(GroupSpatialSoftmax, detectron_ext::GroupSpatialSoftmaxOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(
    GroupSpatialSoftmaxGradient, detectron_ext::GroupSpatialSoftmaxGradientOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SoftmaxFocalLoss, detectron_ext::SoftmaxFocalLossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(
    SoftmaxFocalLossGradient, detectron_ext::SoftmaxFocalLossGradientOp);

}  // namespace caffe2
