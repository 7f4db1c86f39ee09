// Arguments of operators, read and checked.
#pragma once

#include <cmath>

#include <caffe2/core/operator.h>

namespace detectron_ext {

inline float PositiveArgument(const caffe2::OperatorBase& op, const char* name,
                              float default_value) {
  const float value = op.GetSingleArgument<float>(name, default_value);
  CAFFE_ENFORCE(value > 0 && std::isfinite(value), op.type(), ": ", name, " is ", value,
                ", must be a number above 0");
  return value;
}

inline float NotNegativeArgument(const caffe2::OperatorBase& op, const char* name,
                                 float default_value) {
  const float value = op.GetSingleArgument<float>(name, default_value);
  CAFFE_ENFORCE(value >= 0 && std::isfinite(value), op.type(), ": ", name, " is ", value,
                ", must be a number of at least 0");
  return value;
}

}  // namespace detectron_ext
