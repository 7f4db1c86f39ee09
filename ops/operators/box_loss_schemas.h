// Inputs and outputs of the operators of a box loss, for their schemas. A loss adds its description
// and its own arguments.
#pragma once

#include <caffe2/core/operator_schema.h>

namespace detectron_ext {

// The inputs of the dense form, as those of Detectron's SmoothL1Loss.
inline void DescribeDenseInputs(caffe2::OpSchema& schema) {
  schema
      .Input(0, "Y_hat",
             "Predicted regression values, (N, D...) float32: N rows of any shape. The only input "
             "with a gradient.")
      .Input(1, "Y",
             "True regression values, float32, shaped as Y_hat. Another shape is allowed if it has "
             "N rows and the same number of elements; the order of the elements counts.")
      .Input(2, "alpha_in",
             "Inside weights, which multiply the differences: float32, shaped as Y_hat. Another "
             "shape with the same number of elements is allowed.")
      .Input(3, "alpha_out",
             "Outside weights, which multiply the penalties: float32, shaped as Y_hat. Another "
             "shape with the same number of elements is allowed.");
}

// The inputs of the select form, as those of Detectron's SelectSmoothL1Loss.
inline void DescribeSelectInputs(caffe2::OpSchema& schema) {
  schema
      .Input(0, "Y_hat",
             "Predicted box deltas, (N, A * 4, H, W) float32: four channels for each of A anchors, "
             "or for each anchor and class. The only input with a gradient.")
      .Input(1, "Y",
             "True box deltas, (M, 4) float32: row m belongs to row m of L. On CUDA M must be "
             "below 2^29.")
      .Input(2, "L",
             "Locations of the predictions, (M, 4) float32: rows (n, c, y, x) of indices, whose "
             "fractions are dropped. A row selects channels c to c + 3 at position (y, x) of image "
             "n. A row that selects anything outside Y_hat is an error.")
      .Input(3, "S", "Number of foreground anchors over all pyramid levels: float32, one element.");
}

// The inputs of the select form with weights.
inline void DescribeWeightedSelectInputs(caffe2::OpSchema& schema) {
  DescribeSelectInputs(schema);
  schema.Input(4, "R", "Weights of the rows, (M,) float32: number m belongs to row m of L.");
}

// The output of the gradient of either form.
inline void DescribePredictionGradient(caffe2::OpSchema& schema) {
  schema.Output(0, "d_Y_hat",
                "Gradient of Y_hat, float32, shaped as Y_hat. The other inputs have no gradient.");
}

}  // namespace detectron_ext
