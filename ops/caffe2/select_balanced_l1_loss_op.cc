#include "caffe2/select_balanced_l1_loss_op.h"

#include <string>
#include <vector>

#include "caffe2/checks.h"
#include "caffe2/gradient_definition.h"
#include "caffe2/schema_helpers.h"
#include "caffe2/select_inputs.h"
#include "caffe2/threads.h"
#include "kernels/select_loss.h"

namespace detectron_ext {

using caffe2::CPUContext;

template <>
bool SelectBalancedL1LossOp<CPUContext>::RunOnDevice() {
  const SelectInputs in = CheckSelectInputs(type(), Input(0), Input(1), Input(2), Input(3));
  auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
  const double sum = SelectLoss(
      in.y_hat, in.map, in.y, in.places, in.rows,
      [this](float difference) { return loss_.Loss(difference); });
  *loss->mutable_data<float>() = static_cast<float>(scale_ * sum / in.normalizer);
  return true;
}

template <>
bool SelectBalancedL1LossGradientOp<CPUContext>::RunOnDevice() {
  const SelectInputs in = CheckSelectInputs(type(), Input(0), Input(1), Input(2), Input(3));
  EnforceOneNumber(type(), "d_loss", Input(4));
  auto* d_predictions = Output(0, Input(0).sizes(), at::dtype<float>());
  SelectLossGradient(
      in.y_hat, in.map, in.y, in.places, in.rows,
      scale_ * *Input(4).data<float>() / in.normalizer,
      [this](float difference) { return loss_.Gradient(difference); },
      d_predictions->mutable_data<float>(), ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(
    SelectBalancedL1Loss, detectron_ext::SelectBalancedL1LossOp<CPUContext>);
REGISTER_CPU_OPERATOR(
    SelectBalancedL1LossGradient, detectron_ext::SelectBalancedL1LossGradientOp<CPUContext>);

OPERATOR_SCHEMA(SelectBalancedL1Loss)
    .NumInputs(4)
    .NumOutputs(1)
    .TensorInferenceFunction(detectron_ext::InferScalar)
    .FillUsing(detectron_ext::DocumentBalancedL1Arguments)
    .SetDoc(R"DOC(
Balanced L1 loss (Libra R-CNN, arXiv:1904.02701) at selected locations of a dense map of box
regressions, as SelectSmoothL1Loss for Smooth L1:

  scale / max(S, 1) * sum over rows (n, c, y, x) of L and k < 4 of
      BalancedL1(Y_hat[n, c + k, y, x] - Y[row, k])

With no rows the loss is 0. Rows that select the same prediction all count. See BalancedL1Loss for
the formula.
)DOC")
    .Input(0, "Y_hat", "Box regressions, (N, channels, H, W), channels 4 times the anchors (and "
                       "classes).")
    .Input(1, "Y", "Targets of the selected boxes, (M, 4).")
    .Input(2, "L", "Their locations, (M, 4): rows (n, c, y, x) of whole numbers as floats; "
                   "channels c to c + 3 are selected. Outside Y_hat is an error.")
    .Input(3, "S", "Number of foreground anchors over all pyramid levels, one number; the loss is "
                   "divided by max(S, 1).")
    .Output(0, "loss", "Scalar.");

OPERATOR_SCHEMA(SelectBalancedL1LossGradient)
    .NumInputs(5)
    .NumOutputs(1)
    .IdenticalTypeAndShapeOfInput(0)
    .FillUsing(detectron_ext::DocumentBalancedL1Arguments)
    .SetDoc("Gradient of SelectBalancedL1Loss for its predictions.")
    .Input(0, "Y_hat", "See SelectBalancedL1Loss.")
    .Input(1, "Y", "See SelectBalancedL1Loss.")
    .Input(2, "L", "See SelectBalancedL1Loss.")
    .Input(3, "S", "See SelectBalancedL1Loss.")
    .Input(4, "d_loss", "Gradient of the loss, one number.")
    .Output(0, "d_Y_hat", "Gradient of Y_hat, of its shape; zero where nothing is selected.");

namespace {

class GetSelectBalancedL1LossGradient : public GradientMakerBase {
  using GradientMakerBase::GradientMakerBase;
  std::vector<OperatorDef> GetGradientDefs() override {
    return detectron_ext::GradientDefinition(
        "SelectBalancedL1LossGradient",
        std::vector<std::string>{I(0), I(1), I(2), I(3), GO(0)},
        std::vector<std::string>{GI(0)});
  }
};

}  // namespace

REGISTER_GRADIENT(SelectBalancedL1Loss, GetSelectBalancedL1LossGradient);

}  // namespace caffe2
