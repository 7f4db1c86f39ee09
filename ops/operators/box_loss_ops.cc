// The operators of the box losses on the CPU. Each loss has a dense form and a select form. The
// schemas and gradient makers of our own losses are here, too.
#include <string>

#include "operators/box_loss_schemas.h"
#include "operators/box_losses_on_cpu.h"
#include "operators/gradient_definition.h"
#include "operators/registration.h"
#include "operators/schema_helpers.h"

namespace caffe2 {

using detectron_ext::DenseLossGradientOnCpu;
using detectron_ext::DenseLossOnCpu;
using detectron_ext::SelectLossGradientOnCpu;
using detectron_ext::SelectLossOnCpu;

// ---- Smooth L1. Its schemas, gradient makers and CUDA classes are Detectron's.

using detectron_ext::SmoothL1;

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SmoothL1Loss, DenseLossOnCpu<SmoothL1>);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SmoothL1LossGradient, DenseLossGradientOnCpu<SmoothL1>);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SelectSmoothL1Loss, SelectLossOnCpu<SmoothL1>);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SelectSmoothL1LossGradient, SelectLossGradientOnCpu<SmoothL1>);

// With weights of the rows, smooth L1 is our own.

REGISTER_CPU_OPERATOR(WeightedSelectSmoothL1Loss, SelectLossOnCpu<SmoothL1, true>);
REGISTER_CPU_OPERATOR(WeightedSelectSmoothL1LossGradient, SelectLossGradientOnCpu<SmoothL1, true>);

// ---- Balanced L1

using detectron_ext::BalancedL1;

REGISTER_CPU_OPERATOR(BalancedL1Loss, DenseLossOnCpu<BalancedL1>);
REGISTER_CPU_OPERATOR(BalancedL1LossGradient, DenseLossGradientOnCpu<BalancedL1>);
REGISTER_CPU_OPERATOR(SelectBalancedL1Loss, SelectLossOnCpu<BalancedL1>);
REGISTER_CPU_OPERATOR(SelectBalancedL1LossGradient, SelectLossGradientOnCpu<BalancedL1>);
REGISTER_CPU_OPERATOR(WeightedSelectBalancedL1Loss, SelectLossOnCpu<BalancedL1, true>);
REGISTER_CPU_OPERATOR(WeightedSelectBalancedL1LossGradient,
                      SelectLossGradientOnCpu<BalancedL1, true>);

namespace {

void DescribeSmoothL1Arguments(OpSchema& schema) {
  schema
      .Arg("beta",
           "(float, above 0, default 1.0) absolute difference from which on the penalty is linear, "
           "in the unit of Y.")
      .Arg("scale", "(float, at least 0, default 1.0) factor of the loss.");
}

void DescribeBalancedL1Arguments(OpSchema& schema) {
  // The schema keeps a pointer to the text.
  static const std::string gamma =
      "(float, above 0, default 1.5) gradient of a penalty at differences of beta and more. It may "
      "be at most " +
      std::to_string(detectron_ext::kMaxBalancedL1Exponent) + " times alpha.";
  schema
      .Arg("alpha",
           "(float, above 0, default 0.5) factor of the gradient of a penalty at differences below "
           "beta. A smaller alpha gives small differences a larger gradient, since the gradient at "
           "beta stays gamma.")
      .Arg("gamma", gamma.c_str())
      .Arg("beta",
           "(float, above 0, default 1.0) absolute difference from which on the penalty is linear, "
           "in the unit of Y. Values of alpha, gamma and beta for which single precision cannot "
           "hold the coefficients of the formula are an error.")
      .Arg("scale", "(float, at least 0, default 1.0) factor of the loss.")
      .Arg("formula",
           "(string, default \"continuous\") \"continuous\" or \"mmdet\". Value and gradient of "
           "\"continuous\" have no jump for any beta. \"mmdet\" is the formula of mmdetection. The "
           "two are equal at beta 1. At another beta the gradient of \"mmdet\" jumps to "
           "alpha * (1 / beta - 1) at 0, and jumps at beta, too.");
}

}  // namespace

OPERATOR_SCHEMA(BalancedL1Loss)
    .FillUsing(detectron_ext::DescribeLoss)
    .FillUsing(detectron_ext::DescribeDenseInputs)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
Balanced L1 loss over rows of boxes (Libra R-CNN, arXiv:1904.02701, section 3.3), with the inputs of
Detectron's SmoothL1Loss:

  loss = scale / N * sum_i alpha_out[i] * L(alpha_in[i] * (Y_hat[i] - Y[i]))

The sum is over all elements. N is the length of the first axis of Y_hat. If Y_hat has no elements,
the loss is 0.
L is the penalty of one difference. With x = |difference| and b = e^(gamma / alpha) - 1,

  continuous:  L = alpha / b * (b x + beta) * ln(b x / beta + 1) - alpha x   where x < beta
               L = gamma x + beta * (gamma / b - alpha)                      elsewhere
  mmdet:       L = alpha / b * (b x + 1) * ln(b x / beta + 1) - alpha x      where x < beta
               L = gamma x + gamma / b - alpha beta                          elsewhere

The gradient of both formulas at a difference of 0 is 0.
)DOC");

OPERATOR_SCHEMA(BalancedL1LossGradient)
    .FillUsing(detectron_ext::DescribeLossGradient)
    .FillUsing(detectron_ext::DescribeDenseInputs)
    .FillUsing(detectron_ext::DescribePredictionGradient)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
Gradient of BalancedL1Loss for Y_hat: d_loss times the derivative of the loss. The arguments must be
those of BalancedL1Loss. If Y_hat has no elements, neither has d_Y_hat.
)DOC");

OPERATOR_SCHEMA(SelectBalancedL1Loss)
    .FillUsing(detectron_ext::DescribeLoss)
    .FillUsing(detectron_ext::DescribeSelectInputs)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
Balanced L1 loss (Libra R-CNN, arXiv:1904.02701, section 3.3) at M places of a map of predictions,
with the inputs of Detectron's SelectSmoothL1Loss:

  loss = scale / max(S, 1) * sum_m sum_k L(Y_hat[n, c + k, y, x] - Y[m, k])

Here (n, c, y, x) is row m of L, and k runs from 0 to 3. The penalty L of one difference is that of
BalancedL1Loss. If several rows select the same prediction, all of them count. If M is 0, the loss
is 0, and Y and L may have any shape without elements.
)DOC");

OPERATOR_SCHEMA(SelectBalancedL1LossGradient)
    .FillUsing(detectron_ext::DescribeLossGradient)
    .FillUsing(detectron_ext::DescribeSelectInputs)
    .FillUsing(detectron_ext::DescribePredictionGradient)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
Gradient of SelectBalancedL1Loss for Y_hat: d_loss times the derivative of the loss. It is 0 at
predictions that no row of L selects, so it is 0 everywhere if M is 0. The arguments must be those
of SelectBalancedL1Loss.
)DOC");

OPERATOR_SCHEMA(WeightedSelectSmoothL1Loss)
    .FillUsing(detectron_ext::DescribeLossOf<5>)
    .FillUsing(detectron_ext::DescribeWeightedSelectInputs)
    .FillUsing(DescribeSmoothL1Arguments)
    .SetDoc(R"DOC(
Detectron's SelectSmoothL1Loss with a weight for every row:

  loss = scale / max(S, 1) * sum_m R[m] * sum_k L(Y_hat[n, c + k, y, x] - Y[m, k])

If all weights are 1, it is SelectSmoothL1Loss. If M is 0, the loss is 0, and Y, L and R may have
any shape without elements.
)DOC");

OPERATOR_SCHEMA(WeightedSelectSmoothL1LossGradient)
    .FillUsing(detectron_ext::DescribeLossGradientOf<5>)
    .FillUsing(detectron_ext::DescribeWeightedSelectInputs)
    .FillUsing(detectron_ext::DescribePredictionGradient)
    .FillUsing(DescribeSmoothL1Arguments)
    .SetDoc(R"DOC(
Gradient of WeightedSelectSmoothL1Loss for Y_hat: d_loss times the derivative of the loss. The
arguments must be those of the loss.
)DOC");

OPERATOR_SCHEMA(WeightedSelectBalancedL1Loss)
    .FillUsing(detectron_ext::DescribeLossOf<5>)
    .FillUsing(detectron_ext::DescribeWeightedSelectInputs)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
SelectBalancedL1Loss with a weight for every row:

  loss = scale / max(S, 1) * sum_m R[m] * sum_k L(Y_hat[n, c + k, y, x] - Y[m, k])

If all weights are 1, it is SelectBalancedL1Loss. If M is 0, the loss is 0, and Y, L and R may have
any shape without elements.
)DOC");

OPERATOR_SCHEMA(WeightedSelectBalancedL1LossGradient)
    .FillUsing(detectron_ext::DescribeLossGradientOf<5>)
    .FillUsing(detectron_ext::DescribeWeightedSelectInputs)
    .FillUsing(detectron_ext::DescribePredictionGradient)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
Gradient of WeightedSelectBalancedL1Loss for Y_hat: d_loss times the derivative of the loss. The
arguments must be those of the loss.
)DOC");

REGISTER_GRADIENT(WeightedSelectSmoothL1Loss, detectron_ext::LossGradientMaker);
REGISTER_GRADIENT(WeightedSelectBalancedL1Loss, detectron_ext::LossGradientMaker);
REGISTER_GRADIENT(BalancedL1Loss, detectron_ext::LossGradientMaker);
REGISTER_GRADIENT(SelectBalancedL1Loss, detectron_ext::LossGradientMaker);

}  // namespace caffe2
