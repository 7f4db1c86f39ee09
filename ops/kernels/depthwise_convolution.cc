// The forward pass.
#include "kernels/depthwise_convolution.h"

#include "kernels/depthwise_planes.h"
#include "kernels/parallel_scratch.h"

namespace detectron_ext {
namespace {

template <int kKernel, int kStride>
void ConvolvePlanes(const DepthwiseShape& shape, const float* x, const float* filter,
                    const float* bias, float* y, ParallelFor parallel_for) {
  using Convolution = PlaneConvolution<kKernel, kStride>;
  ForEachBlockWithScratch(
      parallel_for, shape.images * shape.channels, shape.block(),
      [&] { return Convolution(shape, x, filter, bias); },
      [&](int64_t begin, int64_t end, Convolution& convolution) {
        convolution.Run(begin, end, end, y);
      });
}

}  // namespace

void DepthwiseConvolution(const DepthwiseShape& shape, const float* x, const float* filter,
                          const float* bias, float* y, ParallelFor parallel_for) {
  const auto convolve = shape.kernel == 3
      ? (shape.stride == 1 ? ConvolvePlanes<3, 1> : ConvolvePlanes<3, 2>)
      : (shape.stride == 1 ? ConvolvePlanes<5, 1> : ConvolvePlanes<5, 2>);
  convolve(shape, x, filter, bias, y, parallel_for);
}

}  // namespace detectron_ext
