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

}  // namespace detectron_ext
