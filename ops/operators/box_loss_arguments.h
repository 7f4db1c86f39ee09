// Operator arguments of the box losses, read and checked: one function for each formula.
#pragma once

#include <cmath>
#include <string>

#include <caffe2/core/operator.h>

#include "kernels/balanced_l1.h"
#include "kernels/smooth_l1.h"
#include "operators/arguments.h"

namespace detectron_ext {

// Returns the formula that the arguments of `op` describe. Enforces their ranges.
template <class Formula>
Formula FormulaFromArguments(const caffe2::OperatorBase& op);

template <>
inline SmoothL1 FormulaFromArguments(const caffe2::OperatorBase& op) {
  return {PositiveArgument(op, "beta", 1.0f)};
}

template <>
inline BalancedL1 FormulaFromArguments(const caffe2::OperatorBase& op) {
  const float alpha = PositiveArgument(op, "alpha", 0.5f);
  const float gamma = PositiveArgument(op, "gamma", 1.5f);
  const float beta = PositiveArgument(op, "beta", 1.0f);
  const std::string name = op.GetSingleArgument<std::string>("formula", "continuous");
  CAFFE_ENFORCE(gamma <= kMaxBalancedL1Exponent * static_cast<double>(alpha), op.type(),
                ": gamma is ", gamma, "; it must be at most ", kMaxBalancedL1Exponent,
                " times alpha, which is ", alpha);
  CAFFE_ENFORCE(name == "continuous" || name == "mmdet", op.type(), ": formula is \"", name,
                "\"; it must be \"continuous\" or \"mmdet\"");
  const BalancedL1 formula(
      alpha, gamma, beta,
      name == "mmdet" ? BalancedL1Formula::kMmdet : BalancedL1Formula::kContinuous);
  CAFFE_ENFORCE(formula.t_per_x > 0 && std::isfinite(formula.t_per_x) &&
                    std::isfinite(formula.bowed_weight) && std::isfinite(formula.log_weight),
                op.type(), ": alpha is ", alpha, ", gamma ", gamma, " and beta ", beta,
                ", which are too far apart for single precision");
  return formula;
}

}  // namespace detectron_ext
