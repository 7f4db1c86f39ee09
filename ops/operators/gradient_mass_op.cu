#include "operators/gradient_mass_op.h"

#include <caffe2/core/context_gpu.h>

#include "kernels/gradient_mass_cuda.h"
#include "operators/cuda_helpers.h"

namespace detectron_ext {

using caffe2::CUDAContext;

template <>
bool NegativeGradientMassOp<CUDAContext>::RunOnDevice() {
  const GradientMassInputs in = CheckedInputs();
  double* const scratch = Scratch<double>(GradientMassScratch(num_bins_), &scratch_);
  float* const mass = Output(0, {num_bins_}, at::dtype<float>())->mutable_data<float>();
  NegativeGradientMassCuda(in, scratch, mass, context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CUDA_OPERATOR(NegativeGradientMass, detectron_ext::NegativeGradientMassOp<CUDAContext>);

}  // namespace caffe2
