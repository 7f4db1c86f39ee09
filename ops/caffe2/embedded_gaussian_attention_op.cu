#include "caffe2/embedded_gaussian_attention_op.h"

#include <caffe2/core/context_gpu.h>

#include "kernels/attention_cuda.h"

namespace detectron_ext {
namespace {

using caffe2::CUDAContext;

float* Rows(const AttentionShape& shape, caffe2::Tensor* memory) {
  caffe2::ReinitializeTensor(
      memory, {shape.images, shape.positions}, at::dtype<float>().device(caffe2::CUDA));
  return memory->mutable_data<float>();
}

void CheckImages(const std::string& type, const AttentionShape& shape) {
  CAFFE_ENFORCE(
      shape.images <= kMaxCudaImages, type, ": theta of ", shape.images,
      " images; CUDA takes at most ", kMaxCudaImages);
}

}  // namespace

template <>
bool EmbeddedGaussianAttentionOp<CUDAContext>::RunOnDevice() {
  const AttentionShape shape = CheckedShape();
  CheckImages(type(), shape);
  auto* out = Output(0, Input(0).sizes(), at::dtype<float>());
  const std::vector<int64_t> rows{shape.images, shape.positions};
  caffe2::Tensor own_log_sums;
  float* log_sums = OutputSize() > 1
      ? Output(1, rows, at::dtype<float>())->mutable_data<float>()
      : Rows(shape, &own_log_sums);
  AttentionCuda(
      shape, Input(0).data<float>(), Input(1).data<float>(), Input(2).data<float>(),
      out->mutable_data<float>(), log_sums, context_.cuda_stream());
  return true;
}

template <>
bool EmbeddedGaussianAttentionGradientOp<CUDAContext>::RunOnDevice() {
  const AttentionShape shape = CheckedGradientShape();
  CheckImages(type(), shape);
  const float* theta = Input(0).data<float>();
  const float* phi = Input(1).data<float>();
  const float* g = Input(2).data<float>();
  caffe2::Tensor own_log_sums;
  const float* log_sums;
  if (InputSize() > 5) {
    log_sums = Input(5).data<float>();
  } else {
    float* computed = Rows(shape, &own_log_sums);
    AttentionCuda(shape, theta, phi, g, nullptr, computed, context_.cuda_stream());
    log_sums = computed;
  }
  caffe2::Tensor row_dots;
  AttentionGradientCuda(
      shape, theta, phi, g, Input(3).data<float>(), log_sums, Input(4).data<float>(),
      Output(0, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
      Output(1, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
      Output(2, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
      Rows(shape, &row_dots), context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

// Tells who has loaded the library that it holds CUDA kernels.
extern "C" __attribute__((visibility("default"))) const int detectron_ext_ops_has_cuda = 1;

namespace caffe2 {

REGISTER_CUDA_OPERATOR(
    EmbeddedGaussianAttention, detectron_ext::EmbeddedGaussianAttentionOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(
    EmbeddedGaussianAttentionGradient,
    detectron_ext::EmbeddedGaussianAttentionGradientOp<CUDAContext>);

}  // namespace caffe2
