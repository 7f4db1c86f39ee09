// BelowAutograd: while an object of this class exists, ATen does not record its functions for
// automatic differentiation. Caffe2's gradients are operators of their own.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>

namespace detectron_ext {

#if __has_include(<c10/core/InferenceMode.h>)  // since torch 1.9
using BelowAutograd = at::AutoDispatchBelowADInplaceOrView;
#else
class BelowAutograd {
  at::AutoNonVariableTypeMode guard_{true};
};
#endif

}  // namespace detectron_ext
