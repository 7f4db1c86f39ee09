// y = scale[c] * x + bias[c] for every channel c, and its gradient.
#pragma once

#include <cstdint>

#include "kernels/lane_sum.h"
#include "kernels/parallel.h"

namespace detectron_ext {

// For NCHW, plane is H * W. For NHWC, images is N * H * W and plane is 1.
struct AffineChannelShape {
  int64_t images;
  int64_t channels;
  int64_t plane;

  // Planes of one block of work: about 16K elements.
  int64_t block() const { return plane >= 16384 ? 1 : 16384 / (plane > 0 ? plane : 1); }
};

// Writes y, which may be x. A null bias counts as 0. Applied to dy without a bias, this function
// gives dx.
inline void AffineChannel(const float* x, const float* scale, const float* bias,
                          const AffineChannelShape& shape, float* y, ParallelFor parallel_for) {
  const int64_t planes = shape.images * shape.channels;
  ForEachBlock(parallel_for, planes, shape.block(), [=](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const float s = scale[p % shape.channels];
      const float b = bias == nullptr ? 0.0f : bias[p % shape.channels];
#pragma omp simd
      for (int64_t i = p * shape.plane; i < (p + 1) * shape.plane; ++i) {
        y[i] = s * x[i] + b;
      }
    }
  });
}

// Writes the gradients of scale and bias: the sums of dy * x and of dy over each channel.
inline void AffineChannelParameterGradient(const float* dy, const float* x,
                                           const AffineChannelShape& shape, float* dscale,
                                           float* dbias, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, shape.channels, 1, [=](int64_t c, int64_t) {
    MomentSums total{0, 0};
    for (int64_t n = 0; n < shape.images; ++n) {
      const int64_t at = (n * shape.channels + c) * shape.plane;
      const MomentSums part = LaneMoments(dy + at, x + at, shape.plane);
      total.sum += part.sum;
      total.products += part.products;
    }
    dscale[c] = static_cast<float>(total.products);
    dbias[c] = static_cast<float>(total.sum);
  });
}

}  // namespace detectron_ext
