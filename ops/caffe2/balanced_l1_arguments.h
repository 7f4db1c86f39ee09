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
  CAFFE_ENFORCE(alpha > 0, op.type(), ": alpha is ", alpha, ", must be above 0");
  CAFFE_ENFORCE(gamma > 0, op.type(), ": gamma is ", gamma, ", must be above 0");
  CAFFE_ENFORCE(beta > 0, op.type(), ": beta is ", beta, ", must be above 0");
  CAFFE_ENFORCE(
      gamma <= kMaxBalancedL1Exponent * alpha, op.type(), ": gamma is ", gamma, ", must be at most ",
      static_cast<int>(kMaxBalancedL1Exponent), " times alpha, which is ", alpha);
  CAFFE_ENFORCE(
      formula == "continuous" || formula == "mmdet", op.type(), ": formula is \"", formula,
      "\", must be \"continuous\" or \"mmdet\"");
  return BalancedL1(
      alpha, gamma, beta,
      formula == "mmdet" ? BalancedL1Formula::kMmdet : BalancedL1Formula::kContinuous);
}

// Reads scale; enforces that it is not negative.
inline float ScaleFromArguments(const caffe2::OperatorBase& op) {
  const float scale = op.GetSingleArgument<float>("scale", 1.0f);
  CAFFE_ENFORCE(scale >= 0, op.type(), ": scale is ", scale, ", must be at least 0");
  return scale;
}

}  // namespace detectron_ext
