// SigmoidCrossEntropyLoss and its gradient on the CPU, where Detectron has no implementation.
#include <algorithm>

#include <caffe2/core/operator.h>

#include "kernels/sigmoid_cross_entropy.h"
#include "operators/arguments.h"
#include "operators/checks.h"
#include "operators/loss_on_cpu.h"
#include "operators/registration.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Workspace;

class SigmoidCrossEntropyBase : public Operator<CPUContext> {
 public:
  SigmoidCrossEntropyBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        scale_(ScaleArgument(*this)),
        normalize_(GetSingleArgument<int>("normalize", 1)) {
    CAFFE_ENFORCE(normalize_ == 0 || normalize_ == 1, type(), ": normalize is ", normalize_,
                  "; it must be 0 or 1");
  }

 protected:
  // Returns the targets. Enforces that there is one for each logit.
  const int32_t* CheckedTargets() {
    CAFFE_ENFORCE(Input(0).numel() == Input(1).numel(), type(), ": targets of shape ",
                  Input(1).sizes(), " must have as many elements as X of shape ", Input(0).sizes());
    return Input(1).data<int32_t>();
  }

  // Returns scale, or scale / (the number of targets that are not -1) if the loss is normalised.
  double Normalizer() {
    if (normalize_ == 0) {
      return scale_;
    }
    const int64_t count = CountTargets(Input(1).data<int32_t>(), Input(1).numel(), ThreadPoolFor);
    return scale_ / std::max<double>(static_cast<double>(count), 1e-5);
  }

 private:
  const float scale_;
  const int normalize_;
};

// Inputs X and targets; output the loss, a scalar.
class SigmoidCrossEntropyLossOp final : public SigmoidCrossEntropyBase {
 public:
  using SigmoidCrossEntropyBase::SigmoidCrossEntropyBase;

  bool RunOnDevice() override {
    const int32_t* const targets = CheckedTargets();
    const double sum =
        SigmoidCrossEntropy(Input(0).data<float>(), targets, Input(0).numel(), ThreadPoolFor);
    return WriteLoss(this, Normalizer() * sum);
  }
};

// Inputs X, targets and the gradient of the loss; output d_X.
class SigmoidCrossEntropyLossGradientOp final : public SigmoidCrossEntropyBase {
 public:
  using SigmoidCrossEntropyBase::SigmoidCrossEntropyBase;

  bool RunOnDevice() override {
    const int32_t* const targets = CheckedTargets();
    const auto factor = static_cast<float>(Normalizer() * LossGradient(this));
    SigmoidCrossEntropyGradient(Input(0).data<float>(), targets, Input(0).numel(), factor,
                                PredictionGradient(this), ThreadPoolFor);
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SigmoidCrossEntropyLoss,
                                    detectron_ext::SigmoidCrossEntropyLossOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SigmoidCrossEntropyLossGradient,
                                    detectron_ext::SigmoidCrossEntropyLossGradientOp);

}  // namespace caffe2
