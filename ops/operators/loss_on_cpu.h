// Results and gradients of the losses on the CPU.
#pragma once

#include <vector>

#include <caffe2/core/operator.h>

#include "operators/checks.h"

namespace detectron_ext {

// Makes output 0 the scalar `loss`.
inline bool WriteLoss(caffe2::Operator<caffe2::CPUContext>* op, double loss) {
  auto* output = op->Output(0, std::vector<int64_t>(), at::dtype<float>());
  *output->mutable_data<float>() = static_cast<float>(loss);
  return true;
}

// Returns the gradient of the loss, the last input of every gradient operator.
inline float LossGradient(caffe2::Operator<caffe2::CPUContext>* op) {
  const caffe2::Tensor& d_loss = op->Input(op->InputSize() - 1);
  EnforceOneNumber(op->type(), "d_loss", d_loss);
  return *d_loss.data<float>();
}

// Gives output 0 the shape of the prediction, which is input 0, and returns its memory.
inline float* PredictionGradient(caffe2::Operator<caffe2::CPUContext>* op) {
  return op->Output(0, op->Input(0).sizes(), at::dtype<float>())->mutable_data<float>();
}

}  // namespace detectron_ext
