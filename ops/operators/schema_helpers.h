// Parts of operator schemas that several operators share.
#pragma once

#include <vector>

#include <caffe2/core/operator_schema.h>

namespace detectron_ext {

// Shape inference of an operator with one output, a float scalar.
inline std::vector<caffe2::TensorShape> InferScalar(const caffe2::OperatorDef&,
                                                    const std::vector<caffe2::TensorShape>&) {
  caffe2::TensorShape scalar;
  scalar.set_data_type(caffe2::TensorProto_DataType_FLOAT);
  return {scalar};
}

// Describes the number of inputs and the output of a loss.
template <int kInputs>
void DescribeLossOf(caffe2::OpSchema& schema) {
  schema.NumInputs(kInputs)
      .NumOutputs(1)
      .TensorInferenceFunction(InferScalar)
      .Output(0, "loss", "Loss, a float32 scalar of shape ().");
}

// Describes the last input of the gradient of such a loss, and that its output has the shape of the
// first input.
template <int kInputs>
void DescribeLossGradientOf(caffe2::OpSchema& schema) {
  schema.NumInputs(kInputs + 1)
      .NumOutputs(1)
      .IdenticalTypeAndShapeOfInput(0)
      .Input(kInputs, "d_loss",
             "Gradient of the loss, float32: a tensor of any shape with one element.");
}

// The same for a loss with four inputs.
inline void DescribeLoss(caffe2::OpSchema& schema) { DescribeLossOf<4>(schema); }
inline void DescribeLossGradient(caffe2::OpSchema& schema) { DescribeLossGradientOf<4>(schema); }

}  // namespace detectron_ext
