// The forward pass and the gradient of the input. The latter is a forward pass too: of d_y, with the
// filters turned by half a turn and their channels exchanged.
#include "kernels/winograd_convolution.h"

#include <algorithm>
#include <vector>

#include "kernels/block_product.h"
#include "kernels/channel_panels.h"
#include "kernels/kept_buffer.h"
#include "kernels/packing.h"
#include "kernels/simd.h"
#include "kernels/winograd_tiles.h"
#include "kernels/winograd_transforms.h"

namespace detectron_ext {
namespace {

constexpr int64_t kBandFloats = 5 << 20;  // the most floats of a band's transformed tiles
constexpr int64_t kTaskTiles = 256;       // tiles that a task multiplies with all filters

// A convolution of stride 1 without a notion of direction. Element (r, s) of the filter between
// input i and output o is filter[o * output_stride + i * input_stride + t], with t = 3 r + s, or
// with t = 8 - 3 r - s if `turned`.
struct FilterView {
  const float* data;
  int64_t output_stride;
  int64_t input_stride;
  bool turned;
};

// Computes a tile of kTileRows x kVectors products, the sums over `depth` channels of left[tile]
// times right. left lies in blocks of kVectorWidth channels, right is packed. c is in blocks, too.
// Meanwhile it fetches the tiles of the next call, which follow in each block of channels, and a
// cache line at `ahead` for each block: left and right come from the second-level cache or farther.
template <int kVectors>
__attribute__((noinline)) void MultiplyTiles(int64_t depth, const float* __restrict left,
                                             int64_t left_stride, const float* __restrict right,
                                             float* __restrict c, int64_t c_stride,
                                             const float* ahead) {
  constexpr int64_t kTileFloats = kTileRows * kVectorWidth;
  for (int v = 0; v < kVectors; ++v) {
    for (int64_t i = 0; i < kTileFloats; i += kLineFloats) {
      __builtin_prefetch(c + v * c_stride + i, 1);
    }
  }
  FloatVector sum[kTileRows][kVectors] = {};
  for (int64_t k = 0; k < depth; k += kVectorWidth, left += left_stride, ahead += kLineFloats) {
    __builtin_prefetch(ahead, 0, 2);
    for (int64_t i = 0; i < kTileFloats; i += kLineFloats) {
      __builtin_prefetch(left + kTileFloats + i);
    }
#pragma GCC unroll 8
    for (int64_t step = 0; step < kVectorWidth; ++step, right += kVectors * kVectorWidth) {
      AddStep<kVectorWidth>(left + step, right, sum);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 16
    for (int row = 0; row < kTileRows; ++row) {
      StoreVector(c + v * c_stride + row * kVectorWidth, sum[row][v]);
    }
  }
}

template <int kOutputs>
class Convolution {
 public:
  using Minimal = MinimalFilter<kOutputs>;
  static constexpr int64_t kProducts = Minimal::kProducts * Minimal::kProducts;

  // bias may be null.
  Convolution(const FilterView& filter, const float* bias, const ImagePlanes<const float>& x,
              int64_t images, int64_t pad_top, int64_t pad_left, const ImagePlanes<float>& y)
      : filter_(filter),
        x_(x),
        y_(y),
        pad_top_(pad_top),
        pad_left_(pad_left),
        grid_(images, y.height, y.width, kOutputs),
        panels_(y.channels),
        depth_(RoundUp(x.channels, kVectorWidth)),
        filter_stride_(depth_ * panels_.vectors * kVectorWidth + 48),
        band_tiles_(BandTiles()),
        in_layout_(x.channels, band_tiles_),
        out_layout_(y.channels, band_tiles_),
        memory_(kProducts * filter_stride_ + in_layout_.size(kProducts) +
                out_layout_.size(kProducts)),
        filters_(memory_.data()),
        tiles_(filters_ + kProducts * filter_stride_),
        products_(tiles_ + in_layout_.size(kProducts)),
        bias_(panels_.vectors * kVectorWidth, 0.0f) {
    if (bias != nullptr) {
      std::copy(bias, bias + y.channels, bias_.begin());
    }
  }

  void Run(ParallelFor parallel_for) const {
    ForEachBlock(parallel_for, panels_.vectors, 1,
                 [this](int64_t vector, int64_t) { TransformFilters(vector); });
    for (int64_t first = 0; first < grid_.count; first += band_tiles_) {
      const int64_t last = std::min(grid_.count, first + band_tiles_);
      const int64_t padded = RoundUp(last - first, kTileRows);
      ForEachBlock(parallel_for, in_layout_.blocks, 1, [=](int64_t block, int64_t) {
        TransformPixels<typename Minimal::Input, kOutputs>(grid_, x_, pad_top_, pad_left_, block,
                                                           first, last, padded, in_layout_, tiles_);
      });
      const int64_t parts = DivideUp(padded, kTaskTiles);
      ForEachBlock(parallel_for, kProducts * parts, 1, [=](int64_t task, int64_t) {
        const int64_t begin = task % parts * kTaskTiles;
        Multiply(task / parts, begin, std::min(padded, begin + kTaskTiles));
      });
      ForEachBlock(parallel_for, out_layout_.blocks, 1, [=](int64_t block, int64_t) {
        WriteOutputs<typename Minimal::Output>(grid_, products_, out_layout_, bias_.data(), block,
                                               first, last, y_);
      });
    }
  }

 private:
  // The number of tiles of a band: all bands are of nearly equal size.
  int64_t BandTiles() const {
    const int64_t channels = depth_ + panels_.vectors * kVectorWidth;
    const int64_t most = std::max(kTaskTiles, kBandFloats / (kProducts * channels));
    const int64_t bands = DivideUp(grid_.count, most);
    return RoundUp(DivideUp(grid_.count, bands), kTileRows);
  }

  // Transforms the filters of a vector of outputs: filters_[product][panel][input][output].
  void TransformFilters(int64_t vector) const {
    int64_t panel = vector / kTileVectors;
    while (panels_.first(panel + 1) <= vector * kVectorWidth) {
      ++panel;
    }
    const int64_t width = panels_.width(panel);
    const int64_t output = vector * kVectorWidth;
    float* const to = filters_ + panels_.first(panel) * depth_ + (output - panels_.first(panel));
    for (int64_t input = 0; input < depth_; ++input) {
      alignas(64) float taps[9 * kVectorWidth];
      GatherTaps(output, input, taps);
      TransformSquare<typename Minimal::Filter>(
          [&](int row, int column) { return LoadVector(taps + (3 * row + column) * kVectorWidth); },
          [&](int row, int column, FloatVector value) {
            const int64_t product = row * Minimal::kProducts + column;
            StoreVector(to + product * filter_stride_ + input * width, value);
          });
    }
  }

  // Copies the taps from an input to kVectorWidth outputs: taps[3 r + s][output].
  void GatherTaps(int64_t output, int64_t input, float* taps) const {
    const int64_t present =
        input < x_.channels ? std::min<int64_t>(kVectorWidth, y_.channels - output) : 0;
    if (present < kVectorWidth) {
      std::fill(taps, taps + 9 * kVectorWidth, 0.0f);
    }
    const float* from =
        filter_.data + output * filter_.output_stride + input * filter_.input_stride;
    for (int64_t i = 0; i < present; ++i, from += filter_.output_stride) {
      for (int tap = 0; tap < 9; ++tap) {
        taps[tap * kVectorWidth + i] = from[filter_.turned ? 8 - tap : tap];
      }
    }
  }

  // Multiplies tiles [begin, end) of the band with all filters, for one product of the tile.
  void Multiply(int64_t product, int64_t begin, int64_t end) const {
    const float* const tiles = tiles_ + product * in_layout_.product_stride;
    const float* const filters = filters_ + product * filter_stride_;
    float* const products = products_ + product * out_layout_.product_stride;
    for (int64_t panel = 0; panel < panels_.count; ++panel) {
      const int64_t first = panels_.first(panel);
      const float* const right = filters + first * depth_;
      const float* ahead = right + panels_.width(panel) * depth_;  // the next panel
      float* const c = products + first / kVectorWidth * out_layout_.block_stride;
      for (int64_t tile = begin; tile < end; tile += kTileRows) {
        MultiplyPanel(panels_.width(panel), tiles + tile * kVectorWidth, right,
                      c + tile * kVectorWidth, ahead);
        ahead += depth_ / kVectorWidth * kLineFloats;
      }
    }
  }

  void MultiplyPanel(int64_t width, const float* left, const float* right, float* c,
                     const float* ahead) const {
    const int64_t left_stride = in_layout_.block_stride;
    const int64_t c_stride = out_layout_.block_stride;
    switch (width / kVectorWidth) {
      case 1:
        return MultiplyTiles<1>(depth_, left, left_stride, right, c, c_stride, ahead);
      case 2:
        return MultiplyTiles<2>(depth_, left, left_stride, right, c, c_stride, ahead);
      default:
        return MultiplyTiles<3>(depth_, left, left_stride, right, c, c_stride, ahead);
    }
  }

  const FilterView filter_;
  const ImagePlanes<const float> x_;
  const ImagePlanes<float> y_;
  const int64_t pad_top_;
  const int64_t pad_left_;
  const TileGrid grid_;
  const VectorPanels panels_;  // of outputs
  const int64_t depth_;
  const int64_t filter_stride_;
  const int64_t band_tiles_;
  const BlockedLayout in_layout_;
  const BlockedLayout out_layout_;
  KeptBuffer memory_;
  float* const filters_;
  float* const tiles_;
  float* const products_;
  std::vector<float> bias_;
};

void Convolve(WinogradTile tile, const FilterView& filter, const float* bias,
              const ImagePlanes<const float>& x, int64_t images, int64_t pad_top, int64_t pad_left,
              const ImagePlanes<float>& y, ParallelFor parallel_for) {
  if (tile == WinogradTile::k2) {
    Convolution<2>(filter, bias, x, images, pad_top, pad_left, y).Run(parallel_for);
  } else {
    Convolution<4>(filter, bias, x, images, pad_top, pad_left, y).Run(parallel_for);
  }
}

}  // namespace

void WinogradConvolution(const WinogradShape& shape, WinogradTile tile, const float* x,
                         const float* filter, const float* bias, float* y,
                         ParallelFor parallel_for) {
  const FilterView view{filter, shape.in_channels * 9, 9, false};
  Convolve(tile, view, bias, {x, shape.in_channels, shape.height, shape.width}, shape.images,
           shape.pad_top, shape.pad_left,
           {y, shape.out_channels, shape.out_height(), shape.out_width()}, parallel_for);
}

void WinogradInputGradient(const WinogradShape& shape, WinogradTile tile, const float* filter,
                           const float* d_y, float* d_x, ParallelFor parallel_for) {
  const FilterView view{filter, 9, shape.in_channels * 9, true};
  Convolve(tile, view, nullptr, {d_y, shape.out_channels, shape.out_height(), shape.out_width()},
           shape.images, 2 - shape.pad_top, 2 - shape.pad_left,
           {d_x, shape.in_channels, shape.height, shape.width}, parallel_for);
}

}  // namespace detectron_ext
