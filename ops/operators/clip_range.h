// The arguments min and max of Clip and of the operators that end in it.
#pragma once

#include <limits>

#include <caffe2/core/operator.h>

#include "kernels/clip.h"

namespace detectron_ext {

// Returns the limits. A missing argument limits nothing that is finite, as in Caffe2.
inline ClipRange ClipRangeArguments(const caffe2::OperatorBase& op) {
  return {op.GetSingleArgument<float>("min", std::numeric_limits<float>::lowest()),
          op.GetSingleArgument<float>("max", std::numeric_limits<float>::max())};
}

}  // namespace detectron_ext
