// The gradients of filter and bias. The gradient of the transformed filter is a sum over all tiles
// of products of transformed gradients of the outputs with transformed inputs. At the end it is
// transformed to the gradient of the filter.
#include <algorithm>

#include "kernels/block_product.h"
#include "kernels/channel_panels.h"
#include "kernels/kept_buffer.h"
#include "kernels/lane_sum.h"
#include "kernels/packing.h"
#include "kernels/simd.h"
#include "kernels/winograd_convolution.h"
#include "kernels/winograd_tiles.h"
#include "kernels/winograd_transforms.h"

namespace detectron_ext {
namespace {

constexpr int64_t kBandFloats = 5 << 20;  // the most floats of a band's transformed tiles
constexpr int64_t kMinBandTiles = 64;
constexpr int64_t kTaskBlocks = 128 / kVectorWidth;  // blocks of outputs of a task
constexpr int64_t kSumTiles =
    256;  // tiles added at a time: a panel's stay in the first-level cache

// Adds to kTileRows x kVectors sums the products left[tile][row] * right[tile] of `count` tiles.
// Each vector of right lies in a block of its own. Starts the sums if `add` is not set.
template <int kVectors>
__attribute__((noinline)) void AddTiles(int64_t count, const float* __restrict left,
                                        const float* __restrict right, int64_t right_stride,
                                        bool add, float* __restrict sums, int64_t sums_stride) {
  for (int row = 0; row < kTileRows; ++row) {
    __builtin_prefetch(sums + row * sums_stride, 1);
    __builtin_prefetch(sums + row * sums_stride + kVectors * kVectorWidth - 1, 1);
  }
  FloatVector sum[kTileRows][kVectors] = {};
#pragma GCC unroll 4
  for (int64_t tile = 0; tile < count; ++tile, left += kVectorWidth, right += kVectorWidth) {
    AddStep<1>(left, right, sum, right_stride);
  }
#pragma GCC unroll 16
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* const to = sums + row * sums_stride + v * kVectorWidth;
      StoreVector(to, add ? LoadVector(to) + sum[row][v] : sum[row][v]);
    }
  }
}

template <int kOutputs>
class FilterGradient {
 public:
  using Minimal = MinimalFilter<kOutputs>;
  static constexpr int64_t kProducts = Minimal::kProducts * Minimal::kProducts;

  FilterGradient(const WinogradShape& shape, const float* x, const float* d_y)
      : x_{x, shape.in_channels, shape.height, shape.width},
        d_y_{d_y, shape.out_channels, shape.out_height(), shape.out_width()},
        pad_top_(shape.pad_top),
        pad_left_(shape.pad_left),
        grid_(shape.images, d_y_.height, d_y_.width, kOutputs),
        panels_(shape.in_channels),
        band_tiles_(BandTiles()),
        in_layout_(shape.in_channels, band_tiles_),
        out_layout_(shape.out_channels, band_tiles_),
        columns_(panels_.vectors * kVectorWidth),
        sums_stride_(out_layout_.blocks * kVectorWidth * columns_ + 48),
        memory_(kProducts * sums_stride_ + in_layout_.size(kProducts) +
                out_layout_.size(kProducts)),
        sums_(memory_.data()),
        inputs_(sums_ + kProducts * sums_stride_),
        gradients_(inputs_ + in_layout_.size(kProducts)) {}

  void Run(float* d_filter, ParallelFor parallel_for) const {
    for (int64_t first = 0; first < grid_.count; first += band_tiles_) {
      const int64_t last = std::min(grid_.count, first + band_tiles_);
      TransformBand(first, last, parallel_for);
      const int64_t parts = DivideUp(out_layout_.blocks, kTaskBlocks);
      ForEachBlock(parallel_for, kProducts * parts, 1, [=](int64_t task, int64_t) {
        const int64_t begin = task % parts * kTaskBlocks;
        for (int64_t tile = 0; tile < last - first; tile += kSumTiles) {
          AddProducts(task / parts, begin, std::min(out_layout_.blocks, begin + kTaskBlocks), tile,
                      std::min(last - first, tile + kSumTiles), first + tile > 0);
        }
      });
    }
    ForEachBlock(parallel_for, d_y_.channels, 1, [=](int64_t output, int64_t) {
      WriteGradient(output, d_filter + output * x_.channels * 9);
    });
  }

 private:
  int64_t BandTiles() const {
    const int64_t channels = panels_.vectors * kVectorWidth + RoundUp(d_y_.channels, kVectorWidth);
    const int64_t most = std::max(kMinBandTiles, kBandFloats / (kProducts * channels));
    return DivideUp(grid_.count, DivideUp(grid_.count, most));
  }

  void TransformBand(int64_t first, int64_t last, ParallelFor parallel_for) const {
    const int64_t blocks = in_layout_.blocks + out_layout_.blocks;
    ForEachBlock(parallel_for, blocks, 1, [=](int64_t block, int64_t) {
      if (block < in_layout_.blocks) {
        TransformPixels<typename Minimal::Input, kOutputs>(
            grid_, x_, pad_top_, pad_left_, block, first, last, last - first, in_layout_, inputs_);
      } else {
        TransformPixels<typename Minimal::OutputGradient, kOutputs>(
            grid_, d_y_, 0, 0, block - in_layout_.blocks, first, last, last - first, out_layout_,
            gradients_);
      }
    });
  }

  // Adds the products of tiles [first, last) of the band, for blocks of outputs [begin, end) and one
  // product of the tile: sums_[product][output][input].
  void AddProducts(int64_t product, int64_t begin, int64_t end, int64_t first, int64_t last,
                   bool add) const {
    const float* const inputs =
        inputs_ + product * in_layout_.product_stride + first * kVectorWidth;
    const float* const gradients =
        gradients_ + product * out_layout_.product_stride + first * kVectorWidth;
    float* const sums = sums_ + product * sums_stride_;
    for (int64_t panel = 0; panel < panels_.count; ++panel) {
      const int64_t column = panels_.first(panel);
      const float* const right = inputs + column / kVectorWidth * in_layout_.block_stride;
      for (int64_t output = begin * kVectorWidth; output < end * kVectorWidth;
           output += kTileRows) {
        const float* const left =
            gradients + output / kVectorWidth * out_layout_.block_stride + output % kVectorWidth;
        AddPanel(panels_.width(panel), last - first, left, right, add,
                 sums + output * columns_ + column);
      }
    }
  }

  void AddPanel(int64_t width, int64_t count, const float* left, const float* right, bool add,
                float* sums) const {
    const int64_t stride = in_layout_.block_stride;
    switch (width / kVectorWidth) {
      case 1:
        return AddTiles<1>(count, left, right, stride, add, sums, columns_);
      case 2:
        return AddTiles<2>(count, left, right, stride, add, sums, columns_);
      default:
        return AddTiles<3>(count, left, right, stride, add, sums, columns_);
    }
  }

  // Transforms the sums of one output to the gradients of its taps: d_filter[input][9].
  void WriteGradient(int64_t output, float* d_filter) const {
    for (int64_t input = 0; input < x_.channels; input += kVectorWidth) {
      const float* const sums = sums_ + output * columns_ + input;
      alignas(64) float taps[9 * kVectorWidth];
      TransformSquare<typename Minimal::FilterGradient>(
          [&](int row, int column) {
            return LoadVector(sums + (row * Minimal::kProducts + column) * sums_stride_);
          },
          [&](int row, int column, FloatVector value) {
            StoreVector(taps + (3 * row + column) * kVectorWidth, value);
          });
      const int64_t present = std::min<int64_t>(kVectorWidth, x_.channels - input);
      for (int64_t i = 0; i < present; ++i) {
        for (int tap = 0; tap < 9; ++tap) {
          d_filter[(input + i) * 9 + tap] = taps[tap * kVectorWidth + i];
        }
      }
    }
  }

  const ImagePlanes<const float> x_;
  const ImagePlanes<const float> d_y_;
  const int64_t pad_top_;
  const int64_t pad_left_;
  const TileGrid grid_;
  const VectorPanels panels_;  // of inputs
  const int64_t band_tiles_;
  const BlockedLayout in_layout_;
  const BlockedLayout out_layout_;
  const int64_t columns_;
  const int64_t sums_stride_;
  KeptBuffer memory_;
  float* const sums_;
  float* const inputs_;
  float* const gradients_;
};

// Writes the sums of each channel over all images and positions.
void SumChannels(const ImagePlanes<const float>& planes, int64_t images, float* sums,
                 ParallelFor parallel_for) {
  ForEachBlock(parallel_for, planes.channels, 1, [=](int64_t channel, int64_t) {
    double sum = 0;
    for (int64_t image = 0; image < images; ++image) {
      sum += LaneSum(planes.At(image, channel), planes.plane());
    }
    sums[channel] = sum;
  });
}

}  // namespace

void WinogradFilterGradient(const WinogradShape& shape, WinogradTile tile, const float* x,
                            const float* d_y, float* d_filter, float* d_bias,
                            ParallelFor parallel_for) {
  if (tile == WinogradTile::k2) {
    FilterGradient<2>(shape, x, d_y).Run(d_filter, parallel_for);
  } else {
    FilterGradient<4>(shape, x, d_y).Run(d_filter, parallel_for);
  }
  if (d_bias != nullptr) {
    SumChannels({d_y, shape.out_channels, shape.out_height(), shape.out_width()}, shape.images,
                d_bias, parallel_for);
  }
}

}  // namespace detectron_ext
