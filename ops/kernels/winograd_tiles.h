// The tiles of a Winograd convolution, and where their transformed numbers lie.
//
// Tiles are numbered through all images, row by row. A band is a range of tiles whose transformed
// numbers are in memory at a time. They lie in blocks of kVectorWidth channels:
//
//   [product of the tile][block of channels][tile of the band][channel of the block]
//
// The channels of the last block that do not exist are zeros.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/block_product.h"
#include "kernels/packing.h"
#include "kernels/simd.h"
#include "kernels/transpose.h"
#include "kernels/winograd_transforms.h"

namespace detectron_ext {

constexpr int64_t kMaxRunTiles = 16;  // tiles of a run: their pixels fit in the first-level cache

// Neighbouring tiles of one row of tiles.
struct TileRun {
  int64_t image;
  int64_t row;     // of tiles
  int64_t column;  // of tiles
  int64_t count;
  int64_t at;  // number of tiles between the start of the band and this run
};

// The tiles of kOutputs x kOutputs outputs of an output of the given size.
struct TileGrid {
  TileGrid(int64_t images, int64_t height, int64_t width, int64_t outputs)
      : rows((height + outputs - 1) / outputs),
        columns((width + outputs - 1) / outputs),
        count(images * rows * columns) {}

  // Calls body(run) for the runs that make up [first, last).
  template <typename Body>
  void ForEachRun(int64_t first, int64_t last, const Body& body) const {
    for (int64_t tile = first; tile < last;) {
      const int64_t column = tile % columns;
      const int64_t row = tile / columns;
      const int64_t size = std::min({last - tile, columns - column, kMaxRunTiles});
      body(TileRun{row / rows, row % rows, column, size, tile - first});
      tile += size;
    }
  }

  int64_t rows;
  int64_t columns;
  int64_t count;
};

// Where the transformed numbers of a band lie, in floats. The gaps keep blocks and products from
// starting at the same place of a cache, to which multiples of 4096 bytes map.
struct BlockedLayout {
  BlockedLayout(int64_t channels, int64_t tiles)
      : blocks(DivideUp(channels, kVectorWidth)),
        block_stride(tiles * kVectorWidth + 16),
        product_stride(blocks * block_stride + 48) {}

  int64_t size(int64_t products) const { return products * product_stride; }

  int64_t blocks;
  int64_t block_stride;
  int64_t product_stride;
};

// Images as planes of a channel each: (images, channels, height, width).
template <typename Float>
struct ImagePlanes {
  Float* data;
  int64_t channels;
  int64_t height;
  int64_t width;

  int64_t plane() const { return height * width; }
  Float* At(int64_t image, int64_t channel) const {
    return data + (image * channels + channel) * plane();
  }
};

// Pixels of kVectorWidth channels: [row][column][channel].
template <int kRows>
struct PixelStrip {
  static constexpr int64_t kColumns = kMaxRunTiles * 4 + 2;

  float* At(int64_t row, int64_t column) {
    return pixels + (row * kColumns + column) * kVectorWidth;
  }

  alignas(64) float pixels[kRows * kColumns * kVectorWidth];
};

// Copies `count` pixels of `channels` planes from `from` on: to[pixel][channel]. Channels from
// `channels` to kVectorWidth become zeros.
inline void InterleaveChannels(const float* from, int64_t plane, int64_t channels, int64_t count,
                               float* to) {
  int64_t i = 0;
  if (channels == kVectorWidth) {
    for (; i + kVectorWidth <= count; i += kVectorWidth) {
      TransposeSquare<kVectorWidth>(from + i, plane, to + i * kVectorWidth, kVectorWidth);
    }
  }
  for (; i < count; ++i) {
    for (int64_t channel = 0; channel < kVectorWidth; ++channel) {
      to[i * kVectorWidth + channel] = channel < channels ? from[channel * plane + i] : 0.0f;
    }
  }
}

// The reverse: writes `count` pixels of `channels` planes.
inline void SeparateChannels(const float* from, int64_t plane, int64_t channels, int64_t count,
                             float* to) {
  int64_t i = 0;
  if (channels == kVectorWidth) {
    for (; i + kVectorWidth <= count; i += kVectorWidth) {
      TransposeSquare<kVectorWidth>(from + i * kVectorWidth, kVectorWidth, to + i, plane);
    }
  }
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (int64_t pixel = i; pixel < count; ++pixel) {
      to[channel * plane + pixel] = from[pixel * kVectorWidth + channel];
    }
  }
}

// Fills kRows rows of `columns` pixels of a block of channels, from pixel (top, left) of an image
// on. Pixels outside of the image are zeros.
template <int kRows>
void FillStrip(const ImagePlanes<const float>& planes, int64_t image, int64_t block, int64_t top,
               int64_t left, int64_t columns, PixelStrip<kRows>& strip) {
  const int64_t channel = block * kVectorWidth;
  const int64_t channels = std::min<int64_t>(kVectorWidth, planes.channels - channel);
  const int64_t begin = std::min(columns, std::max<int64_t>(0, -left));
  const int64_t end = std::max(begin, std::min(columns, planes.width - left));
  const float* const from = planes.At(image, channel);
  for (int64_t row = 0; row < kRows; ++row) {
    const int64_t y = top + row;
    if (y < 0 || y >= planes.height) {
      std::fill(strip.At(row, 0), strip.At(row, columns), 0.0f);
      continue;
    }
    std::fill(strip.At(row, 0), strip.At(row, begin), 0.0f);
    InterleaveChannels(from + y * planes.width + left + begin, planes.plane(), channels,
                       end - begin, strip.At(row, begin));
    std::fill(strip.At(row, end), strip.At(row, columns), 0.0f);
  }
}

// Transforms squares of pixels of one block of channels at the tiles [first, last) of `grid`, and
// writes them as a band. The squares start kStep pixels apart, the first one at pixel (-pad_top,
// -pad_left). Places of the band from last - first to `padded` become zeros.
template <typename Transform, int kStep>
void TransformPixels(const TileGrid& grid, const ImagePlanes<const float>& planes, int64_t pad_top,
                     int64_t pad_left, int64_t block, int64_t first, int64_t last, int64_t padded,
                     const BlockedLayout& layout, float* transformed) {
  constexpr int kSide = Transform::kFrom;
  PixelStrip<kSide> strip;
  float* const to = transformed + block * layout.block_stride;
  grid.ForEachRun(first, last, [&](const TileRun& run) {
    FillStrip(planes, run.image, block, run.row * kStep - pad_top, run.column * kStep - pad_left,
              (run.count - 1) * kStep + kSide, strip);
    for (int64_t tile = 0; tile < run.count; ++tile) {
      float* const place = to + (run.at + tile) * kVectorWidth;
      const float* const pixels = strip.At(0, tile * kStep);
      TransformSquare<Transform>(
          [&](int row, int column) {
            return LoadVector(pixels + (row * strip.kColumns + column) * kVectorWidth);
          },
          [&](int row, int column, FloatVector value) {
            StoreVector(place + (row * Transform::kTo + column) * layout.product_stride, value);
          });
    }
  });
  for (int64_t product = 0; product < Transform::kTo * Transform::kTo; ++product) {
    float* const places = to + product * layout.product_stride;
    std::fill(places + (last - first) * kVectorWidth, places + padded * kVectorWidth, 0.0f);
  }
}

// Transforms the products of a band to outputs of one block of channels, and writes them to the
// planes of y. bias: of the block's channels.
template <typename Transform>
void WriteOutputs(const TileGrid& grid, const float* products, const BlockedLayout& layout,
                  const float* bias, int64_t block, int64_t first, int64_t last,
                  const ImagePlanes<float>& y) {
  constexpr int kOutputs = Transform::kTo;
  PixelStrip<kOutputs> strip;
  const int64_t channel = block * kVectorWidth;
  const int64_t channels = std::min<int64_t>(kVectorWidth, y.channels - channel);
  const FloatVector shift = LoadVector(bias + channel);
  const float* const from = products + block * layout.block_stride;
  grid.ForEachRun(first, last, [&](const TileRun& run) {
    for (int64_t tile = 0; tile < run.count; ++tile) {
      const float* const place = from + (run.at + tile) * kVectorWidth;
      float* const pixels = strip.At(0, tile * kOutputs);
      TransformSquare<Transform>(
          [&](int row, int column) {
            return LoadVector(place + (row * Transform::kFrom + column) * layout.product_stride);
          },
          [&](int row, int column, FloatVector value) {
            StoreVector(pixels + (row * strip.kColumns + column) * kVectorWidth, value + shift);
          });
    }
    const int64_t top = run.row * kOutputs;
    const int64_t left = run.column * kOutputs;
    const int64_t columns = std::min(run.count * kOutputs, y.width - left);
    for (int64_t row = 0; row < std::min<int64_t>(kOutputs, y.height - top); ++row) {
      SeparateChannels(strip.At(row, 0), y.plane(), channels, columns,
                       y.At(run.image, channel) + (top + row) * y.width + left);
    }
  });
}

}  // namespace detectron_ext
