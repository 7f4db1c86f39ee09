// What the CUDA operators share.
#pragma once

#include <caffe2/core/context_gpu.h>
#include <caffe2/core/operator.h>

#include "kernels/losses_cuda.h"

namespace detectron_ext {

// Device memory for the partial sums of a loss.
inline double* PartialSums(caffe2::Tensor* memory) {
  caffe2::ReinitializeTensor(
      memory, {kLossPartialSums}, at::dtype<double>().device(caffe2::CUDA));
  return memory->mutable_data<double>();
}

}  // namespace detectron_ext
