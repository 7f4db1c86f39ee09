#include "operators/embedded_gaussian_attention_op.h"

#include "kernels/attention_cuda.h"
#include "operators/cuda_helpers.h"

namespace detectron_ext {
namespace {

using caffe2::CUDAContext;

// Enforces the kernels' limits.
const AttentionShape& CheckForCuda(const std::string& type, const AttentionShape& shape) {
  CAFFE_ENFORCE(shape.images <= kMaxCudaImages, type, ": theta of ", shape.images,
                " images; CUDA takes at most ", kMaxCudaImages);
  CAFFE_ENFORCE(shape.channels <= kMaxCudaChannels && shape.positions < kMaxCudaPositions, type,
                ": theta of ", shape.channels, " channels and ", shape.positions,
                " positions is too large for CUDA");
  return shape;
}

}  // namespace

template <>
bool EmbeddedGaussianAttentionOp<CUDAContext>::RunOnDevice() {
  const AttentionShape shape = CheckForCuda(type(), CheckedShape());
  auto* out = Output(0, Input(0).sizes(), at::dtype<float>());
  const std::vector<int64_t> rows{shape.images, shape.positions};
  float* log_sums = OutputSize() > 1 ? Output(1, rows, at::dtype<float>())->mutable_data<float>()
                                     : Scratch<float>(shape.images * shape.positions, &log_sums_);
  AttentionCuda(shape, AttentionProducts::kChosen, Input(0).data<float>(), Input(1).data<float>(),
                Input(2).data<float>(), out->mutable_data<float>(), log_sums,
                Scratch<float>(AttentionScratch(shape), &scratch_), context_.cuda_stream());
  return true;
}

template <>
bool EmbeddedGaussianAttentionGradientOp<CUDAContext>::RunOnDevice() {
  const AttentionShape shape = CheckForCuda(type(), CheckedGradientShape());
  const float* theta = Input(0).data<float>();
  const float* phi = Input(1).data<float>();
  const float* g = Input(2).data<float>();
  float* const scratch = Scratch<float>(AttentionScratch(shape), &scratch_);
  const float* log_sums;
  if (InputSize() > 5) {
    log_sums = Input(5).data<float>();
  } else {
    float* computed = Scratch<float>(shape.images * shape.positions, &log_sums_);
    AttentionCuda(shape, AttentionProducts::kChosen, theta, phi, g, nullptr, computed, scratch,
                  context_.cuda_stream());
    log_sums = computed;
  }
  AttentionGradientCuda(shape, AttentionProducts::kChosen, theta, phi, g, Input(3).data<float>(),
                        log_sums, Input(4).data<float>(),
                        Output(0, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
                        Output(1, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
                        Output(2, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
                        scratch, context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

// The library exports this symbol only if it has CUDA kernels. A program that has loaded it can
// check.
extern "C" __attribute__((visibility("default"))) const int detectron_ext_ops_has_cuda = 1;

namespace caffe2 {

REGISTER_CUDA_OPERATOR(EmbeddedGaussianAttention,
                       detectron_ext::EmbeddedGaussianAttentionOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(EmbeddedGaussianAttentionGradient,
                       detectron_ext::EmbeddedGaussianAttentionGradientOp<CUDAContext>);

}  // namespace caffe2
