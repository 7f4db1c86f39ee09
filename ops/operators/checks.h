// Checks of inputs. Their messages name the operator, the input and the shapes.
#pragma once

#include <algorithm>
#include <string>

#include <caffe2/core/logging.h>
#include <caffe2/core/tensor.h>

namespace detectron_ext {

// In all checks `type` is the operator's type and `name` the input's name.
inline void EnforceOneNumber(const std::string& type, const char* name,
                             const caffe2::Tensor& tensor) {
  CAFFE_ENFORCE(tensor.numel() == 1, type, ": ", name, " of shape ", tensor.sizes(),
                " must hold one number");
}

inline void EnforceDimensions(const std::string& type, const char* name,
                              const caffe2::Tensor& tensor, int dimensions) {
  CAFFE_ENFORCE(tensor.dim() == dimensions, type, ": ", name, " of shape ", tensor.sizes(),
                " must have ", dimensions, " dimensions");
}

inline void EnforceShape(const std::string& type, const char* name, const caffe2::Tensor& tensor,
                         at::IntArrayRef expected, const char* other_name,
                         const caffe2::Tensor& other) {
  CAFFE_ENFORCE(tensor.sizes() == expected, type, ": ", name, " of shape ", tensor.sizes(),
                " does not fit ", other_name, " of shape ", other.sizes(), ": it must be ",
                expected);
}

inline void EnforceSameShape(const std::string& type, const char* name,
                             const caffe2::Tensor& tensor, const char* other_name,
                             const caffe2::Tensor& other) {
  EnforceShape(type, name, tensor, other.sizes(), other_name, other);
}

// Returns the number of channels of X, whose last axis (channels_last) or second axis they are.
// Enforces that X has such an axis.
inline int64_t CheckedChannels(const std::string& type, const caffe2::Tensor& x,
                               bool channels_last) {
  CAFFE_ENFORCE_GE(x.dim(), 2, type, ": X of shape ", x.sizes(), " has no channels");
  return x.dim(channels_last ? x.dim() - 1 : 1);
}

// Returns the divisor of losses over foreground anchors: their number, but at least 1. The tensor
// must be on the CPU.
inline float ForegroundCount(const caffe2::Tensor& number) {
  return std::max(*number.data<float>(), 1.0f);
}

}  // namespace detectron_ext
