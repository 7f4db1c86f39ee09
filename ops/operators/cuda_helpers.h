// What the CUDA operators share.
#pragma once

#include <caffe2/core/context_gpu.h>
#include <caffe2/core/operator.h>

#include "kernels/losses_cuda.h"

namespace detectron_ext {

// Returns working memory on the device. `memory` must outlive the kernels that use it. Operators
// keep it from run to run, which also avoids allocations.
template <typename Number>
Number* Scratch(int64_t count, caffe2::Tensor* memory) {
  caffe2::ReinitializeTensor(memory, {count}, at::dtype<Number>().device(caffe2::CUDA));
  return memory->mutable_data<Number>();
}

// Returns working memory for the partial sums of a loss.
inline double* PartialSums(caffe2::Tensor* memory) {
  return Scratch<double>(kLossPartialSums, memory);
}

}  // namespace detectron_ext
