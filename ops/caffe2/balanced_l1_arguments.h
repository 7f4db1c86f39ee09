// The arguments that the operators of balanced L1 share.
#pragma once

#include <string>

#include <caffe2/core/operator.h>

#include "kernels/formulas.h"

namespace detectron_ext {

// Reads alpha, gamma, beta and formula; enforces that the first three are positive and that
// e^(gamma / alpha) fits a float.
inline BalancedL1 BalancedL1FromArguments(const caffe2::OperatorBase& op) {
  const float alpha = op.GetSingleArgument<float>("alpha", 0.5f);
  const float gamma = op.GetSingleArgument<float>("gamma", 1.5f);
  const float beta = op.GetSingleArgument<float>("beta", 1.0f);
  const std::string formula = op.GetSingleArgument<std::string>("formula", "continuous");
  CAFFE_ENFORCE(
      alpha > 0 && gamma > 0 && beta > 0, op.type(),
      ": alpha, gamma and beta must be positive, but are ", alpha, ", ", gamma, " and ", beta);
  CAFFE_ENFORCE(
      gamma <= kMaxBalancedL1Exponent * alpha, op.type(), ": gamma / alpha must be at most ",
      static_cast<int>(kMaxBalancedL1Exponent), ", but gamma is ", gamma, " and alpha ", alpha);
  CAFFE_ENFORCE(
      formula == "continuous" || formula == "mmdet", op.type(),
      ": formula must be \"continuous\" or \"mmdet\", but is \"", formula, "\"");
  return BalancedL1(
      alpha, gamma, beta,
      formula == "mmdet" ? BalancedL1Formula::kMmdet : BalancedL1Formula::kContinuous);
}

// Enforces that an input holds one number.
inline void CheckScalar(const caffe2::OperatorBase& op, const char* name,
                        const caffe2::Tensor& input) {
  CAFFE_ENFORCE_EQ(
      input.numel(), 1, op.type(), ": ", name, " of shape ", input.sizes(),
      " must hold one number");
}

}  // namespace detectron_ext
