// The operators of the box losses on the CPU. Each loss has a dense form and a select form. The
// schemas and gradient makers of our own losses are here, too.
#include <string>

#include "operators/box_loss_schemas.h"
#include "operators/box_losses_on_cpu.h"
#include "operators/gradient_definition.h"
#include "operators/registration.h"

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

// ---- Balanced L1

using detectron_ext::BalancedL1;

REGISTER_CPU_OPERATOR(BalancedL1Loss, DenseLossOnCpu<BalancedL1>);
REGISTER_CPU_OPERATOR(BalancedL1LossGradient, DenseLossGradientOnCpu<BalancedL1>);
REGISTER_CPU_OPERATOR(SelectBalancedL1Loss, SelectLossOnCpu<BalancedL1>);
REGISTER_CPU_OPERATOR(SelectBalancedL1LossGradient, SelectLossGradientOnCpu<BalancedL1>);

namespace {

void DescribeBalancedL1Arguments(OpSchema& schema) {
  // The schema keeps a pointer to the text.
  static const std::string gamma =
      "(float > 0, default 1.5) gradient at and beyond beta. gamma / alpha may be at most " +
      std::to_string(detectron_ext::kMaxBalancedL1Exponent) + ".";
  schema
      .Arg("alpha",
           "(float > 0, default 0.5) slope of the gradient's logarithm: smaller values "
           "promote small differences more.")
      .Arg("gamma", gamma.c_str())
      .Arg("beta", "(float > 0, default 1.0) difference at which the loss becomes linear.")
      .Arg("scale", "(float >= 0, default 1.0) factor of the loss.")
      .Arg("formula",
           "(string, default \"continuous\") \"continuous\": value and gradient are continuous for "
           "every beta. \"mmdet\": mmdetection's formula; it equals the other one at beta 1 and is "
           "discontinuous elsewhere.");
}

}  // namespace

OPERATOR_SCHEMA(BalancedL1Loss)
    .FillUsing(detectron_ext::DescribeDenseLoss)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
Balanced L1 loss (Libra R-CNN, arXiv:1904.02701, section 3.3), in the form of SmoothL1Loss:

  scale / N * sum_i alpha_out[i] * L(alpha_in[i] * (Y_hat[i] - Y[i])),

where N is the length of the first axis of Y_hat; with N = 0 the loss is 0. With x = |difference|
and b = e^(gamma / alpha) - 1, L is

  continuous:  x < beta: alpha / b * (b x + beta) * ln(b x / beta + 1) - alpha x
               else:     gamma x + beta * (gamma / b - alpha)
  mmdet:       x < beta: alpha / b * (b x + 1) * ln(b x / beta + 1) - alpha x
               else:     gamma x + gamma / b - alpha beta

and its gradient at x = 0 is 0.
)DOC");

OPERATOR_SCHEMA(BalancedL1LossGradient)
    .FillUsing(detectron_ext::DescribeDenseLossGradient)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc("Gradient of BalancedL1Loss for its predictions.");

OPERATOR_SCHEMA(SelectBalancedL1Loss)
    .FillUsing(detectron_ext::DescribeSelectLoss)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc(R"DOC(
Balanced L1 loss (Libra R-CNN, arXiv:1904.02701) at selected locations of a dense map of box
regressions, as SelectSmoothL1Loss for Smooth L1:

  scale / max(S, 1) * sum over rows (n, c, y, x) of L and k < 4 of
      BalancedL1(Y_hat[n, c + k, y, x] - Y[row, k])

Without rows the loss is 0. If several rows select the same prediction, each of them counts. See
BalancedL1Loss for the formula.
)DOC");

OPERATOR_SCHEMA(SelectBalancedL1LossGradient)
    .FillUsing(detectron_ext::DescribeSelectLossGradient)
    .FillUsing(DescribeBalancedL1Arguments)
    .SetDoc("Gradient of SelectBalancedL1Loss for its predictions.");

REGISTER_GRADIENT(BalancedL1Loss, detectron_ext::LossGradientMaker);
REGISTER_GRADIENT(SelectBalancedL1Loss, detectron_ext::LossGradientMaker);

}  // namespace caffe2
