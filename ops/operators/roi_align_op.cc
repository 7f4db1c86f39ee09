// RoIAlign and its gradient on all threads. Caffe2's own use one thread, and its gradient does ten
// times the work.
//
// Maps of order NHWC are copied to NCHW, and their features are copied back. The gradient takes
// only NCHW, as Caffe2's does.
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <caffe2/core/operator.h>
#include <caffe2/core/types.h>

#include "kernels/roi_align.h"
#include "operators/arguments.h"
#include "operators/below_autograd.h"
#include "operators/checks.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPU;
using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

class RoiAlignBase : public Operator<CPUContext> {
 public:
  RoiAlignBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        scale_(PositiveArgument(*this, "spatial_scale", 1.0f)),
        pooled_h_(GetSingleArgument<int>("pooled_h", 1)),
        pooled_w_(GetSingleArgument<int>("pooled_w", 1)),
        sampling_ratio_(GetSingleArgument<int>("sampling_ratio", -1)),
        aligned_(GetSingleArgument<bool>("aligned", false)) {
    CAFFE_ENFORCE(pooled_h_ > 0 && pooled_w_ > 0, type(), ": pooled_h is ", pooled_h_,
                  " and pooled_w is ", pooled_w_, "; both must be above 0");
  }

 protected:
  // Enforces the shape of x, which is NCHW, and that every region is usable.
  RoiAlignShape CheckedShape(const Tensor& x) {
    const Tensor& rois = Input(1);
    CAFFE_ENFORCE(x.dim() == 4 && x.dim(2) > 0 && x.dim(3) > 0, type(), ": X of shape ", x.sizes(),
                  " must be (N, C, H, W) with positive H and W");
    const int64_t columns = rois.dim() == 2 ? rois.dim(1) : 0;
    CAFFE_ENFORCE(columns == 4 || columns == 5, type(), ": RoIs of shape ", rois.sizes(),
                  " must be (R, 5) or (R, 4)");
    const RoiAlignShape shape{x.dim(0),  x.dim(1),  x.dim(2),        x.dim(3), rois.dim(0), columns,
                              pooled_h_, pooled_w_, sampling_ratio_, scale_,   aligned_};
    const int64_t bad = FirstBadAlignedRoi(rois.data<float>(), shape);
    CAFFE_ENFORCE(bad < 0, type(), ": row ", bad, " of RoIs of shape ", rois.sizes(),
                  " names no image of X of shape ", x.sizes(), " or holds an unusable number");
    return shape;
  }

  static std::vector<int64_t> FeatureSizes(const RoiAlignShape& shape) {
    return {shape.rois, shape.channels, shape.pooled_h, shape.pooled_w};
  }

 private:
  const float scale_;
  const int pooled_h_;
  const int pooled_w_;
  const int sampling_ratio_;
  const bool aligned_;
};

// Inputs X and RoIs; output the features.
class RoiAlignOp final : public RoiAlignBase {
 public:
  RoiAlignOp(const OperatorDef& definition, Workspace* workspace)
      : RoiAlignBase(definition, workspace),
        is_nchw_(caffe2::StringToStorageOrder(GetSingleArgument<std::string>("order", "NCHW")) ==
                 caffe2::StorageOrder::NCHW) {}

  bool RunOnDevice() override {
    if (is_nchw_) {
      const RoiAlignShape shape = CheckedShape(Input(0));
      Pool(Input(0), shape, Output(0, FeatureSizes(shape), at::dtype<float>()));
      return true;
    }
    CAFFE_ENFORCE_EQ(Input(0).dim(), 4, type(), ": X must be (N, H, W, C)");
    const BelowAutograd below_autograd;
    const Tensor x(at::Tensor(Input(0)).permute({0, 3, 1, 2}).contiguous());
    const RoiAlignShape shape = CheckedShape(x);
    Tensor features(FeatureSizes(shape), CPU);
    Pool(x, shape, &features);
    SetOutputTensor(0, Tensor(at::Tensor(features).permute({0, 2, 3, 1}).contiguous()));
    return true;
  }

 private:
  void Pool(const Tensor& x, const RoiAlignShape& shape, Tensor* features) {
    RoiAlign(x.data<float>(), Input(1).data<float>(), shape, features->mutable_data<float>(),
             ThreadPoolFor);
  }

  const bool is_nchw_;
};

// Inputs X, RoIs and the gradient of the features; output dX.
class RoiAlignGradientOp final : public RoiAlignBase {
 public:
  using RoiAlignBase::RoiAlignBase;

  bool RunOnDevice() override {
    const RoiAlignShape shape = CheckedShape(Input(0));
    EnforceShape(type(), "dY", Input(2), FeatureSizes(shape), "X", Input(0));
    auto* dx = Output(0, Input(0).sizes(), at::dtype<float>());
    RoiAlignGradient(Input(1).data<float>(), Input(2).data<float>(), shape,
                     dx->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(RoIAlign, detectron_ext::RoiAlignOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(RoIAlignGradient, detectron_ext::RoiAlignGradientOp);

}  // namespace caffe2
