#include "operators/balanced_pyramid_op.h"

#include "kernels/balanced_pyramid_cuda.h"
#include "operators/cuda_helpers.h"

namespace detectron_ext {
namespace {

using caffe2::CUDAContext;

// Enforces the limits of the kernels' 32-bit indices.
const PyramidShape& CheckForCuda(const std::string& type, const PyramidShape& shape) {
  for (const PlaneSize& size : shape.sizes) {
    CAFFE_ENFORCE(
        size.height < kMaxCudaSide && size.width < kMaxCudaSide && size.area() < kMaxCudaPlane,
        type, ": a level of ", size.height, " x ", size.width,
        " is too large for CUDA: sides must be below ", kMaxCudaSide, " and the area below ",
        kMaxCudaPlane);
  }
  return shape;
}

}  // namespace

template <>
bool BalancedPyramidGatherOp<CUDAContext>::RunOnDevice() {
  const PyramidShape shape = CheckForCuda(type(), CheckedPyramid(0, InputSize(), "F_"));
  auto* gathered = Output(0, Input(refine_).sizes(), at::dtype<float>());
  GatherPyramidCuda(shape, InputPointers(0, InputSize()), gathered->mutable_data<float>(),
                    context_.cuda_stream());
  return true;
}

template <>
bool BalancedPyramidGatherGradientOp<CUDAContext>::RunOnDevice() {
  const int levels = InputSize() - 1;
  const PyramidShape shape = CheckForCuda(type(), CheckedPyramid(0, levels, "F_"));
  CheckSameShape(levels, "d_B", refine_, "F_");
  const std::vector<float*> d_levels = OutputsLikeInputs(0, levels);
  GatherPyramidGradientCuda(shape, InputPointers(0, levels), Input(levels).data<float>(), d_levels,
                            Scratch<int32_t>(GatherPlaces(shape), &scratch_),
                            context_.cuda_stream());
  return true;
}

template <>
bool BalancedPyramidScatterOp<CUDAContext>::RunOnDevice() {
  const int levels = InputSize() - 1;
  const PyramidShape shape = CheckForCuda(type(), CheckedPyramid(1, levels, "F_"));
  CheckSameShape(0, "B", 1 + refine_, "F_");
  const std::vector<float*> scattered = OutputsLikeInputs(1, levels);
  ScatterPyramidCuda(shape, Input(0).data<float>(), InputPointers(1, levels), scattered,
                     context_.cuda_stream());
  return true;
}

template <>
bool BalancedPyramidScatterGradientOp<CUDAContext>::RunOnDevice() {
  const PyramidShape shape = CheckForCuda(type(), CheckedGradients());
  const std::vector<const float*> gradients = GradientPointers();
  auto* d_balanced = Output(0, Input(0).sizes(), at::dtype<float>());
  ScatterPyramidGradientCuda(
      shape, Input(0).data<float>(), gradients, d_balanced->mutable_data<float>(),
      Scratch<int32_t>(ScatterPlaces(shape, gradients), &scratch_), context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CUDA_OPERATOR(BalancedPyramidGather, detectron_ext::BalancedPyramidGatherOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(BalancedPyramidGatherGradient,
                       detectron_ext::BalancedPyramidGatherGradientOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(BalancedPyramidScatter,
                       detectron_ext::BalancedPyramidScatterOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(BalancedPyramidScatterGradient,
                       detectron_ext::BalancedPyramidScatterGradientOp<CUDAContext>);

}  // namespace caffe2
