#include "operators/select_balanced_l1_loss_op.h"

#include "operators/gradient_definition.h"
#include "operators/loss_on_cpu.h"
#include "operators/schema_helpers.h"
#include "operators/threads.h"

namespace detectron_ext {

using caffe2::CPUContext;

template <>
bool SelectBalancedL1LossOp<CPUContext>::RunOnDevice() {
  const SelectLossInputs in = CheckedInputs();
  return WriteLoss(this, Normalizer() * SelectLossSum(in, loss_));
}

template <>
bool SelectBalancedL1LossGradientOp<CPUContext>::RunOnDevice() {
  const SelectLossInputs in = CheckedInputs();
  const float factor = Normalizer() * LossGradient(this);
  SelectLossGradient(in, loss_, factor, PredictionGradient(this), ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(SelectBalancedL1Loss, detectron_ext::SelectBalancedL1LossOp<CPUContext>);
REGISTER_CPU_OPERATOR(SelectBalancedL1LossGradient,
                      detectron_ext::SelectBalancedL1LossGradientOp<CPUContext>);

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
    .Input(0, "Y_hat",
           "Box regressions, (N, channels, H, W), channels 4 times the anchors (and "
           "classes).")
    .Input(1, "Y", "Targets of the selected boxes, (M, 4).")
    .Input(2, "L",
           "Their locations, (M, 4): rows (n, c, y, x) of whole numbers as floats; "
           "channels c to c + 3 are selected. Outside Y_hat is an error.")
    .Input(3, "S",
           "Number of foreground anchors over all pyramid levels, one number; the loss is "
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

REGISTER_GRADIENT(SelectBalancedL1Loss, detectron_ext::LossGradientMaker);

}  // namespace caffe2
