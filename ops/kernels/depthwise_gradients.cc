// The gradients of the filters, the bias and the input.
//
// A large plane of d_y is read for the gradient of the filter, and at once again for the gradient of
// the input. By then it is in the second-level cache.
#include <algorithm>
#include <vector>

#include "kernels/depthwise_convolution.h"
#include "kernels/depthwise_filter_sums.h"
#include "kernels/depthwise_planes.h"
#include "kernels/depthwise_spread.h"
#include "kernels/lane_sum.h"
#include "kernels/parallel_scratch.h"

namespace detectron_ext {
namespace {

// Returns the gradient of a channel's bias. d_y points to the channel's plane of the first image.
float BiasGradient(const DepthwiseShape& shape, const float* d_y) {
  double sum = 0;
  for (int64_t n = 0; n < shape.images; ++n) {
    sum += LaneSum(d_y + n * shape.channels * shape.out_plane(), shape.out_plane());
  }
  return static_cast<float>(sum);
}

// In place of a gradient of the input that is not needed.
struct NoPlanes {
  void Run(int64_t, int64_t, int64_t, float*) {}
};

// The memory of a thread.
template <int kKernel, int kStride, typename InputPlanes>
struct GradientScratch {
  FilterGradient<kKernel, kStride> filter;
  InputPlanes input;
};

// The channels of a block of work: as many as have about shape.block() planes.
int64_t ChannelBlock(const DepthwiseShape& shape) {
  return std::max<int64_t>(1, shape.block() / std::max<int64_t>(1, shape.images));
}

// Computes the gradients of the filters and the bias, and those of the input's planes after the
// planes of d_y that they need have been read.
template <int kKernel, int kStride, typename MakeInput>
void ComputeTogether(const DepthwiseShape& shape, const float* x, const float* d_y,
                     const MakeInput& make_input, float* d_filter, float* d_bias, float* d_x,
                     ParallelFor parallel_for) {
  using Scratch = GradientScratch<kKernel, kStride, decltype(make_input())>;
  ForEachBlockWithScratch(
      parallel_for, shape.channels, ChannelBlock(shape),
      [&] {
        return Scratch{FilterGradient<kKernel, kStride>(shape), make_input()};
      },
      [&](int64_t begin, int64_t end, Scratch& scratch) {
        for (int64_t c = begin; c < end; ++c) {
          const auto after_images = [&](int64_t image, int64_t last) {
            for (; image < last; ++image) {
              const int64_t first = image * shape.channels;
              scratch.input.Run(first + c, first + c + 1, first + end, d_x);
            }
          };
          scratch.filter.Run(c, x, d_y, d_filter + c * shape.taps(), after_images);
          if (d_bias != nullptr) {
            d_bias[c] = BiasGradient(shape, d_y + c * shape.out_plane());
          }
        }
      });
}

// Computes the gradients, together if the planes are large. Small planes are written in the order of
// their addresses instead: that saves more than what is read twice.
template <int kKernel, int kStride, typename MakeInput>
void ComputeGradients(const DepthwiseShape& shape, const float* x, const float* d_y,
                      const MakeInput& make_input, float* d_filter, float* d_bias, float* d_x,
                      ParallelFor parallel_for) {
  if (ChannelBlock(shape) == 1) {
    ComputeTogether<kKernel, kStride>(shape, x, d_y, make_input, d_filter, d_bias, d_x,
                                      parallel_for);
    return;
  }
  ComputeTogether<kKernel, kStride>(
      shape, x, d_y, [] { return NoPlanes(); }, d_filter, d_bias, nullptr, parallel_for);
  ForEachBlockWithScratch(parallel_for, shape.images * shape.channels, shape.block(), make_input,
                          [&](int64_t begin, int64_t end, decltype(make_input())& input) {
                            input.Run(begin, end, end, d_x);
                          });
}

// Returns the filters rotated by 180 degrees.
std::vector<float> RotatedFilters(const DepthwiseShape& shape, const float* filter) {
  std::vector<float> rotated(shape.channels * shape.taps());
  for (int64_t c = 0; c < shape.channels; ++c) {
    const int64_t first = c * shape.taps();
    std::reverse_copy(filter + first, filter + first + shape.taps(), rotated.begin() + first);
  }
  return rotated;
}

// Returns the shape of the convolution of d_y that gives d_x at stride 1.
DepthwiseShape InputGradientShape(const DepthwiseShape& shape) {
  DepthwiseShape gradient = shape;
  gradient.h = {shape.h.out, shape.h.in, shape.kernel - 1 - shape.h.pad};
  gradient.w = {shape.w.out, shape.w.in, shape.kernel - 1 - shape.w.pad};
  return gradient;
}

template <int kKernel>
void ComputeGradients(const DepthwiseShape& shape, const float* x, const float* filter,
                      const float* d_y, float* d_filter, float* d_bias, float* d_x,
                      ParallelFor parallel_for) {
  if (d_x == nullptr) {
    const auto none = [] { return NoPlanes(); };
    if (shape.stride == 1) {
      ComputeTogether<kKernel, 1>(shape, x, d_y, none, d_filter, d_bias, d_x, parallel_for);
    } else {
      ComputeTogether<kKernel, 2>(shape, x, d_y, none, d_filter, d_bias, d_x, parallel_for);
    }
  } else if (shape.stride == 1) {
    const std::vector<float> rotated = RotatedFilters(shape, filter);
    const auto planes = [&] {
      return PlaneConvolution<kKernel, 1>(InputGradientShape(shape), d_y, rotated.data(), nullptr);
    };
    ComputeGradients<kKernel, 1>(shape, x, d_y, planes, d_filter, d_bias, d_x, parallel_for);
  } else if (shape.w.pad % 2 == 0) {
    const auto planes = [&] { return PlaneSpread<kKernel, 0>(shape, filter, d_y); };
    ComputeGradients<kKernel, 2>(shape, x, d_y, planes, d_filter, d_bias, d_x, parallel_for);
  } else {
    const auto planes = [&] { return PlaneSpread<kKernel, 1>(shape, filter, d_y); };
    ComputeGradients<kKernel, 2>(shape, x, d_y, planes, d_filter, d_bias, d_x, parallel_for);
  }
}

}  // namespace

void DepthwiseGradients(const DepthwiseShape& shape, const float* x, const float* filter,
                        const float* d_y, float* d_filter, float* d_bias, float* d_x,
                        ParallelFor parallel_for) {
  const auto compute = shape.kernel == 3 ? ComputeGradients<3> : ComputeGradients<5>;
  compute(shape, x, filter, d_y, d_filter, d_bias, d_x, parallel_for);
}

}  // namespace detectron_ext
