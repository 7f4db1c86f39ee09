// Arguments of operators, read and checked.
#pragma once

#include <cmath>
#include <string>

#include <caffe2/core/operator.h>
#include <caffe2/core/types.h>

namespace detectron_ext {

// Returns the argument `name`. Enforces that it is finite and above 0.
inline float PositiveArgument(const caffe2::OperatorBase& op, const char* name,
                              float default_value) {
  const float value = op.GetSingleArgument<float>(name, default_value);
  CAFFE_ENFORCE(value > 0 && std::isfinite(value), op.type(), ": ", name, " is ", value,
                "; it must be a number above 0");
  return value;
}

// Returns the argument `name`. Enforces that it is finite and not below 0.
inline float NotNegativeArgument(const caffe2::OperatorBase& op, const char* name,
                                 float default_value) {
  const float value = op.GetSingleArgument<float>(name, default_value);
  CAFFE_ENFORCE(value >= 0 && std::isfinite(value), op.type(), ": ", name, " is ", value,
                "; it must be a number of at least 0");
  return value;
}

// Returns the argument `scale`, the factor of a loss.
inline float ScaleArgument(const caffe2::OperatorBase& op) {
  return NotNegativeArgument(op, "scale", 1.0f);
}

// Returns whether the argument `order` is NHWC. Enforces that it is NCHW, the default, or NHWC.
inline bool ChannelsLastArgument(const caffe2::OperatorBase& op) {
  const caffe2::StorageOrder order =
      caffe2::StringToStorageOrder(op.GetSingleArgument<std::string>("order", "NCHW"));
  CAFFE_ENFORCE(order != caffe2::StorageOrder::UNKNOWN, op.type(), ": order must be NCHW or NHWC");
  return order == caffe2::StorageOrder::NHWC;
}

}  // namespace detectron_ext
