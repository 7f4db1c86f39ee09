// Which tile takes the least time. The costs are counted, not measured, so that the choice, and with
// it the bits of the result, depends on the shape alone.
#include <cstdint>

#include "kernels/packing.h"
#include "kernels/simd.h"
#include "kernels/winograd_convolution.h"

namespace detectron_ext {
namespace {

// Costs in units of one multiply-add of a large matrix product. They were fitted to the times of 24
// layers of 3 to 512 channels and of 5x5 to 128x128 positions, on two cores with AVX2. The root mean
// square of the relative errors was 0.15 for oneDNN and 0.12 for this project's kernels.
constexpr double kDirectGradientProduct = 1.5;  // of the direct gradient of a filter
constexpr double kDirectFilter = 60;            // for each element of the filter
constexpr double kDirectPixel = 20;             // for each element of the input and of the output
constexpr double kTransformedFilter = 60;       // for each element of the transformed filter
constexpr double kFilterGradient = 40;          // the same in the gradient of the filter
constexpr double kTransformedPixel = 30;        // for each element of a transformed tile

// The transformed filter must stay a small part of the memory of a training: 32 MB.
constexpr int64_t kMostFilterFloats = 8 << 20;

double DirectCost(const WinogradShape& shape, ConvolutionPass pass) {
  const double filter = 9.0 * shape.in_channels * shape.out_channels;
  const double outputs = 1.0 * shape.images * shape.out_height() * shape.out_width();
  const double inputs = 1.0 * shape.images * shape.height * shape.width;
  return filter * outputs *
      (pass == ConvolutionPass::kFilterGradient ? kDirectGradientProduct : 1.0) +
      kDirectFilter * filter +
      kDirectPixel * (inputs * shape.in_channels + outputs * shape.out_channels);
}

double TransformedFilter(const WinogradShape& shape, int64_t tile) {
  return 1.0 * (tile + 2) * (tile + 2) * RoundUp(shape.in_channels, kVectorWidth) *
      RoundUp(shape.out_channels, kVectorWidth);
}

double TileCost(const WinogradShape& shape, ConvolutionPass pass, int64_t tile) {
  // The tiles of the gradient of x lie in x.
  const bool in_x = pass == ConvolutionPass::kInputGradient;
  const double tiles = 1.0 * shape.images *
      DivideUp(in_x ? shape.height : shape.out_height(), tile) *
      DivideUp(in_x ? shape.width : shape.out_width(), tile);
  const double channels =
      1.0 * RoundUp(shape.in_channels, kVectorWidth) + RoundUp(shape.out_channels, kVectorWidth);
  const double filter = TransformedFilter(shape, tile);
  return filter * tiles +
      filter * (pass == ConvolutionPass::kFilterGradient ? kFilterGradient : kTransformedFilter) +
      kTransformedPixel * (tile + 2) * (tile + 2) * tiles * channels;
}

}  // namespace

WinogradTile FastestWinogradTile(const WinogradShape& shape, ConvolutionPass pass) {
  const bool may_be_large = TransformedFilter(shape, 4) <= kMostFilterFloats;
  return may_be_large && TileCost(shape, pass, 4) < TileCost(shape, pass, 2) ? WinogradTile::k4
                                                                             : WinogradTile::k2;
}

WinogradTile FastestTile(const WinogradShape& shape, ConvolutionPass pass) {
  const WinogradTile tile = FastestWinogradTile(shape, pass);
  const int64_t outputs = static_cast<int64_t>(tile);
  const bool fits = TransformedFilter(shape, outputs) <= kMostFilterFloats;
  return fits && TileCost(shape, pass, outputs) < DirectCost(shape, pass) ? tile
                                                                          : WinogradTile::kNone;
}

}  // namespace detectron_ext
