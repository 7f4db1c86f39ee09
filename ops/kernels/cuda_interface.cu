// The CUDA kernels as plain C functions, for callers without Caffe2: tests and benchmarks in other
// frameworks. Those of the box losses are in kernels/box_losses_cuda.cu. Pointers are to device
// memory; a stream is CUDA's handle. A function that launches kernels returns 0, or 1 if that
// failed; then detectron_ext_last_error returns the reason.
//
// detectron_ext/kernel_benchmark/kernels.py holds the same signatures.
#include <cstdint>
#include <vector>

#include "kernels/attention_cuda.h"
#include "kernels/balanced_pyramid_cuda.h"
#include "kernels/cuda_interface.h"
#include "kernels/losses_cuda.h"
#include "kernels/quality_focal_cuda.h"

namespace detectron_ext {
namespace {

// sizes: height and width of each level.
PyramidShape PyramidOf(int64_t planes, int levels, int refine, const int64_t* sizes) {
  PyramidShape shape{planes, refine, {}};
  for (int i = 0; i < levels; ++i) {
    shape.sizes.push_back({sizes[2 * i], sizes[2 * i + 1]});
  }
  return shape;
}

template <typename Pointer>
std::vector<Pointer> PointersOf(int count, const Pointer* pointers) {
  return std::vector<Pointer>(pointers, pointers + count);
}

}  // namespace
}  // namespace detectron_ext

using namespace detectron_ext;  // NOLINT: this file is nothing but its interface

extern "C" {

// Returns the reason of the last failure in this thread.
const char* detectron_ext_last_error() { return LastCudaError().c_str(); }

// Doubles that `partial_sums` must hold.
int64_t detectron_ext_loss_partial_sums() { return kLossPartialSums; }

int detectron_ext_weighted_sigmoid_focal_loss(int64_t anchors, int64_t classes, int64_t positions,
                                              const float* logits, const int32_t* labels,
                                              const float* weights, const float* normalizer,
                                              float gamma, float alpha, float scale,
                                              double* partial_sums, float* loss,
                                              cudaStream_t stream) {
  return Guarded([&] {
    WeightedSigmoidFocalLossCuda(
        {anchors, classes, positions, logits, labels, weights, normalizer, gamma, alpha}, scale,
        partial_sums, loss, stream);
  });
}

int detectron_ext_weighted_sigmoid_focal_gradient(int64_t anchors, int64_t classes,
                                                  int64_t positions, const float* logits,
                                                  const int32_t* labels, const float* weights,
                                                  const float* normalizer, float gamma, float alpha,
                                                  float scale, const float* d_loss, float* d_logits,
                                                  cudaStream_t stream) {
  return Guarded([&] {
    WeightedSigmoidFocalGradientCuda(
        {anchors, classes, positions, logits, labels, weights, normalizer, gamma, alpha}, scale,
        d_loss, d_logits, stream);
  });
}

int detectron_ext_quality_focal_loss(int64_t anchors, int64_t classes, int64_t positions,
                                     const float* logits, const int32_t* labels,
                                     const float* quality, const float* normalizer, float beta,
                                     float positive_weight, float negative_weight, float scale,
                                     double* partial_sums, float* loss, cudaStream_t stream) {
  return Guarded([&] {
    QualityFocalLossCuda({anchors, classes, positions, logits, labels, quality, normalizer, beta,
                          positive_weight, negative_weight},
                         scale, partial_sums, loss, stream);
  });
}

int detectron_ext_quality_focal_gradient(int64_t anchors, int64_t classes, int64_t positions,
                                         const float* logits, const int32_t* labels,
                                         const float* quality, const float* normalizer, float beta,
                                         float positive_weight, float negative_weight, float scale,
                                         const float* d_loss, float* d_logits,
                                         cudaStream_t stream) {
  return Guarded([&] {
    QualityFocalGradientCuda({anchors, classes, positions, logits, labels, quality, normalizer,
                              beta, positive_weight, negative_weight},
                             scale, d_loss, d_logits, stream);
  });
}

// In the functions of the pyramid, arrays of pointers and of sizes are in host memory.

// Indices that `places` of the two gradients must hold.
int64_t detectron_ext_gather_places(int64_t planes, int levels, int refine, const int64_t* sizes) {
  return GatherPlaces(PyramidOf(planes, levels, refine, sizes));
}

int64_t detectron_ext_scatter_places(int64_t planes, int levels, int refine, const int64_t* sizes,
                                     const float* const* d_scattered) {
  return ScatterPlaces(PyramidOf(planes, levels, refine, sizes), PointersOf(levels, d_scattered));
}

int detectron_ext_pyramid_gather(int64_t planes, int levels, int refine, const int64_t* sizes,
                                 const float* const* data, float* gathered, cudaStream_t stream) {
  return Guarded([&] {
    GatherPyramidCuda(PyramidOf(planes, levels, refine, sizes), PointersOf(levels, data), gathered,
                      stream);
  });
}

int detectron_ext_pyramid_gather_gradient(int64_t planes, int levels, int refine,
                                          const int64_t* sizes, const float* const* data,
                                          const float* d_gathered, float* const* d_data,
                                          int32_t* places, cudaStream_t stream) {
  return Guarded([&] {
    GatherPyramidGradientCuda(PyramidOf(planes, levels, refine, sizes), PointersOf(levels, data),
                              d_gathered, PointersOf(levels, d_data), places, stream);
  });
}

int detectron_ext_pyramid_scatter(int64_t planes, int levels, int refine, const int64_t* sizes,
                                  const float* balanced, const float* const* data,
                                  float* const* scattered, cudaStream_t stream) {
  return Guarded([&] {
    ScatterPyramidCuda(PyramidOf(planes, levels, refine, sizes), balanced, PointersOf(levels, data),
                       PointersOf(levels, scattered), stream);
  });
}

int detectron_ext_pyramid_scatter_gradient(int64_t planes, int levels, int refine,
                                           const int64_t* sizes, const float* balanced,
                                           const float* const* d_scattered, float* d_balanced,
                                           int32_t* places, cudaStream_t stream) {
  return Guarded([&] {
    ScatterPyramidGradientCuda(PyramidOf(planes, levels, refine, sizes), balanced,
                               PointersOf(levels, d_scattered), d_balanced, places, stream);
  });
}

// Floats that `scratch` of attention and its gradient must hold.
int64_t detectron_ext_attention_scratch(int64_t images, int64_t channels, int64_t positions) {
  int64_t floats = -1;
  Guarded([&] { floats = AttentionScratch({images, channels, positions, 1.0f}); });
  return floats;
}

// products: 0 for the faster way on this GPU, 1 for float32, 2 for tensor cores.
int detectron_ext_attention(int64_t images, int64_t channels, int64_t positions, float scale,
                            int products, const float* theta, const float* phi, const float* g,
                            float* out, float* log_sums, float* scratch, cudaStream_t stream) {
  return Guarded([&] {
    AttentionCuda({images, channels, positions, scale}, static_cast<AttentionProducts>(products),
                  theta, phi, g, out, log_sums, scratch, stream);
  });
}

int detectron_ext_attention_gradient(int64_t images, int64_t channels, int64_t positions,
                                     float scale, int products, const float* theta,
                                     const float* phi, const float* g, const float* out,
                                     const float* log_sums, const float* d_out, float* d_theta,
                                     float* d_phi, float* d_g, float* scratch,
                                     cudaStream_t stream) {
  return Guarded([&] {
    AttentionGradientCuda({images, channels, positions, scale},
                          static_cast<AttentionProducts>(products), theta, phi, g, out, log_sums,
                          d_out, d_theta, d_phi, d_g, scratch, stream);
  });
}

}  // extern "C"
