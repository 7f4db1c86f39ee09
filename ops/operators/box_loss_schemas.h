// Schemas of the operators of a box loss. A loss adds its description and its own arguments.
#pragma once

#include <string>

#include <caffe2/core/operator_schema.h>

#include "operators/schema_helpers.h"

namespace detectron_ext {

// Inputs and outputs of the dense form, as those of Detectron's SmoothL1Loss.
inline void DescribeDenseLoss(caffe2::OpSchema& schema) {
  schema.NumInputs(4)
      .NumOutputs(1)
      .TensorInferenceFunction(InferScalar)
      .Input(0, "Y_hat", "Predictions, (N, D...).")
      .Input(1, "Y", "Targets, N rows of as many elements.")
      .Input(2, "alpha_in", "Inside weights, as many elements.")
      .Input(3, "alpha_out", "Outside weights, as many elements.")
      .Output(0, "loss", "Scalar.");
}

inline void DescribeDenseLossGradient(caffe2::OpSchema& schema) {
  schema.NumInputs(5)
      .NumOutputs(1)
      .IdenticalTypeAndShapeOfInput(0)
      .Input(0, "Y_hat", "As in the loss.")
      .Input(1, "Y", "As in the loss.")
      .Input(2, "alpha_in", "As in the loss.")
      .Input(3, "alpha_out", "As in the loss.")
      .Input(4, "d_loss", "Gradient of the loss, one number.")
      .Output(0, "d_Y_hat", "Gradient of Y_hat, of its shape. The other inputs have no gradient.");
}

// Inputs and outputs of the select form, as those of Detectron's SelectSmoothL1Loss.
inline void DescribeSelectLoss(caffe2::OpSchema& schema) {
  schema.NumInputs(4)
      .NumOutputs(1)
      .TensorInferenceFunction(InferScalar)
      .Input(0, "Y_hat",
             "Box regressions, (N, channels, H, W), with 4 channels for each anchor (and class).")
      .Input(1, "Y", "Targets of the selected boxes, (M, 4).")
      .Input(2, "L",
             "Their locations, (M, 4): rows (n, c, y, x) of whole numbers as floats; channels c to "
             "c + 3 are selected. A location outside Y_hat is an error.")
      .Input(3, "S",
             "Number of foreground anchors over all pyramid levels, one number; the loss is "
             "divided by max(S, 1).")
      .Output(0, "loss", "Scalar.");
}

inline void DescribeSelectLossGradient(caffe2::OpSchema& schema) {
  schema.NumInputs(5)
      .NumOutputs(1)
      .IdenticalTypeAndShapeOfInput(0)
      .Input(0, "Y_hat", "As in the loss.")
      .Input(1, "Y", "As in the loss.")
      .Input(2, "L", "As in the loss.")
      .Input(3, "S", "As in the loss.")
      .Input(4, "d_loss", "Gradient of the loss, one number.")
      .Output(0, "d_Y_hat", "Gradient of Y_hat, of its shape; zero where nothing is selected.");
}

}  // namespace detectron_ext
