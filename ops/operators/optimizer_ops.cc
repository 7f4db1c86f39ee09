// WeightedSum and MomentumSGDUpdate on all threads. Caffe2's own use one thread.
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/elementwise.h"
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

// Inputs X_0, weight_0, X_1, weight_1, ...; output the weighted sum, which may be in place of X_0.
class WeightedSumOp final : public Operator<CPUContext> {
 public:
  using Operator<CPUContext>::Operator;

  bool RunOnDevice() override {
    const Tensor& first = Input(0);
    std::vector<const float*> terms;
    std::vector<float> weights;
    for (int i = 0; i < InputSize(); i += 2) {
      CAFFE_ENFORCE(Input(i).numel() == first.numel() && Input(i + 1).numel() == 1, type(),
                    ": input ", i, " of shape ", Input(i).sizes(), " and its weight of shape ",
                    Input(i + 1).sizes(), " do not fit input 0 of shape ", first.sizes());
      terms.push_back(Input(i).data<float>());
      weights.push_back(Input(i + 1).data<float>()[0]);
    }
    const int64_t size = first.numel();
    auto* sum = Output(0, first.sizes(), at::dtype<float>());
    AddWeighted(terms.data(), weights.data(), static_cast<int>(terms.size()), size,
                sum->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

// Inputs gradient, velocity, learning rate, parameter; outputs step, velocity and parameter. step
// may be in place of the gradient and velocity in place of the old one; parameter must be updated
// in place.
class MomentumSgdUpdateOp final : public Operator<CPUContext> {
 public:
  MomentumSgdUpdateOp(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        momentum_(GetSingleArgument<float>("momentum", 0.0f)),
        nesterov_(GetSingleArgument<bool>("nesterov", false)) {}

  bool RunOnDevice() override {
    const Tensor& gradient = Input(0);
    const Tensor& velocity = Input(1);
    const Tensor& parameter = Input(3);
    EnforceOneNumber(type(), "learning rate", Input(2));
    CAFFE_ENFORCE(gradient.numel() == velocity.numel() && gradient.numel() == parameter.numel(),
                  type(), ": gradient of shape ", gradient.sizes(), ", momentum of shape ",
                  velocity.sizes(), " and parameter of shape ", parameter.sizes(), " do not fit");
    CAFFE_ENFORCE(IsInputOutputAlias(3, 2) && parameter.IsType<float>(), type(),
                  ": the parameter must be float and updated in place");
    const MomentumSgd rule{Input(2).data<float>()[0], momentum_, nesterov_};
    const float* const gradient_data = gradient.data<float>();
    const float* const velocity_data = velocity.data<float>();
    auto* step = Output(0, gradient.sizes(), at::dtype<float>());
    auto* new_velocity = Output(1, velocity.sizes(), at::dtype<float>());
    MomentumSgdUpdate(gradient_data, velocity_data, gradient.numel(), rule,
                      step->template mutable_data<float>(),
                      new_velocity->template mutable_data<float>(),
                      Output(2)->template mutable_data<float>(), ThreadPoolFor);
    return true;
  }

 private:
  const float momentum_;
  const bool nesterov_;
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(WeightedSum, detectron_ext::WeightedSumOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(MomentumSGDUpdate, detectron_ext::MomentumSgdUpdateOp);

}  // namespace caffe2
