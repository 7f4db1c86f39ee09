// Pieces of operator schemas that several operators share.
#pragma once

#include <string>
#include <vector>

#include <caffe2/core/operator_schema.h>

namespace detectron_ext {

// Shape inference of an operator whose one output is a float scalar.
inline std::vector<caffe2::TensorShape> InferScalar(const caffe2::OperatorDef&,
                                                    const std::vector<caffe2::TensorShape>&) {
  caffe2::TensorShape scalar;
  scalar.set_data_type(caffe2::TensorProto_DataType_FLOAT);
  return {scalar};
}

// Documents the arguments of balanced L1.
inline caffe2::OpSchema& DocumentBalancedL1Arguments(caffe2::OpSchema& schema) {
  return schema
      .Arg("alpha",
           "(float > 0, default 0.5) slope of the gradient's logarithm: smaller values "
           "promote small differences more.")
      .Arg("gamma",
           "(float > 0, default 1.5) gradient at and beyond beta. gamma / alpha may be "
           "at most 60.")
      .Arg("beta", "(float > 0, default 1.0) difference at which the loss becomes linear.")
      .Arg("scale", "(float >= 0, default 1.0) factor of the loss.")
      .Arg("formula",
           "(string, default \"continuous\") \"continuous\": value and gradient are "
           "continuous for every beta. \"mmdet\": mmdetection's, equal at beta 1 and "
           "discontinuous elsewhere.");
}

}  // namespace detectron_ext
