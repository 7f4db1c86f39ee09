#include "operators/balanced_l1_loss_op.h"

#include "operators/gradient_definition.h"
#include "operators/loss_on_cpu.h"
#include "operators/schema_helpers.h"
#include "operators/threads.h"

namespace detectron_ext {

using caffe2::CPUContext;

template <>
bool BalancedL1LossOp<CPUContext>::RunOnDevice() {
  const DenseLossInputs in = CheckedInputs();
  return WriteLoss(this, Normalizer() * DenseLossSum(in, loss_, ThreadPoolFor));
}

template <>
bool BalancedL1LossGradientOp<CPUContext>::RunOnDevice() {
  const DenseLossInputs in = CheckedInputs();
  const auto factor = static_cast<float>(Normalizer() * LossGradient(this));
  DenseLossGradient(in, loss_, factor, PredictionGradient(this), ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(BalancedL1Loss, detectron_ext::BalancedL1LossOp<CPUContext>);
REGISTER_CPU_OPERATOR(BalancedL1LossGradient, detectron_ext::BalancedL1LossGradientOp<CPUContext>);

OPERATOR_SCHEMA(BalancedL1Loss)
    .NumInputs(4)
    .NumOutputs(1)
    .TensorInferenceFunction(detectron_ext::InferScalar)
    .FillUsing(detectron_ext::DocumentBalancedL1Arguments)
    .SetDoc(R"DOC(
Balanced L1 loss (Libra R-CNN, arXiv:1904.02701, section 3.3), in the form of SmoothL1Loss:

  scale / N * sum_i alpha_out[i] * L(alpha_in[i] * (Y_hat[i] - Y[i])),

N the first axis of Y_hat; with N = 0 the loss is 0. With x = |difference| and
b = e^(gamma / alpha) - 1, L is

  continuous:  x < beta: alpha / b * (b x + beta) * ln(b x / beta + 1) - alpha x
               else:     gamma x + beta * (gamma / b - alpha)
  mmdet:       x < beta: alpha / b * (b x + 1) * ln(b x / beta + 1) - alpha x
               else:     gamma x + gamma / b - alpha beta

and its gradient at x = 0 is 0.
)DOC")
    .Input(0, "Y_hat", "Predictions, (N, D...).")
    .Input(1, "Y", "Targets, N rows of as many elements.")
    .Input(2, "alpha_in", "Inside weights, as many elements.")
    .Input(3, "alpha_out", "Outside weights, as many elements.")
    .Output(0, "loss", "Scalar.");

OPERATOR_SCHEMA(BalancedL1LossGradient)
    .NumInputs(5)
    .NumOutputs(1)
    .IdenticalTypeAndShapeOfInput(0)
    .FillUsing(detectron_ext::DocumentBalancedL1Arguments)
    .SetDoc("Gradient of BalancedL1Loss for its predictions; the other inputs have none.")
    .Input(0, "Y_hat", "See BalancedL1Loss.")
    .Input(1, "Y", "See BalancedL1Loss.")
    .Input(2, "alpha_in", "See BalancedL1Loss.")
    .Input(3, "alpha_out", "See BalancedL1Loss.")
    .Input(4, "d_loss", "Gradient of the loss, one number.")
    .Output(0, "d_Y_hat", "Gradient of Y_hat, of its shape.");

REGISTER_GRADIENT(BalancedL1Loss, detectron_ext::LossGradientMaker);

}  // namespace caffe2
