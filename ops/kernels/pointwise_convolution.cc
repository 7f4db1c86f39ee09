// The forward pass and the gradient of the input: the filter or its transpose, times a matrix of
// channels by positions.
#include "kernels/pointwise_convolution.h"

#include <algorithm>
#include <vector>

#include "kernels/block_product.h"
#include "kernels/channel_panels.h"
#include "kernels/channel_planes.h"
#include "kernels/packing.h"
#include "kernels/simd.h"

namespace detectron_ext {
namespace {

constexpr int64_t kStripFloats = 128 << 10;  // the most floats of a packed strip of several panels
constexpr int64_t kStripPanels = 4;          // the most panels of a strip
constexpr int64_t kEnoughStrips = 8;         // fewer strips only if there are fewer panels
constexpr int64_t kGroupTiles = 8;           // tiles of rows of one unit of work
constexpr int64_t kPackAhead = 12;           // how many channels ahead packing prefetches

// Prefetches one cache line of the next strip in each step. Narrower vectors take more steps, in which
// this would cost more than it gains.
struct PrefetchColumn {
  const float* place;
  int64_t stride;
  void operator()(int64_t step) const {
    if (kVectorWidth == 16) {
      __builtin_prefetch(place + step * stride, 0, 2);
    }
  }
};

// c[row] = start[row] + sum over k of a[k][row] b[k] for kTileRows rows, c_stride apart.
template <int kVectors>
__attribute__((noinline)) void MultiplyInto(int64_t depth, const float* __restrict a,
                                            const float* __restrict b, const float* start,
                                            const PrefetchColumn& prefetch, float* __restrict c,
                                            int64_t c_stride) {
  FloatVector sum[kTileRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[row][v] = FloatVector{} + start[row];
      __builtin_prefetch(c + row * c_stride + v * kVectorWidth, 1);
    }
  }
  AddProducts<1, kTileRows>(depth, a, b, 0, sum, prefetch);
#pragma GCC unroll 16
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      StoreVector(c + row * c_stride + v * kVectorWidth, sum[row][v]);
    }
  }
}

// Writes values[i] to every position i of a run. Writes 0 to the positions that the stride skips:
// to the right of each position and below it.
void WriteRun(const Positions& positions, const PositionRun& run, const Planes<float>& out,
              int64_t channel, const float* values) {
  float* to = out.At(run, channel);
  if (out.dense()) {
    CopyStrided(values, 1, run.count, to);
    return;
  }
  const int64_t column_end = run.column + run.count;
  const int64_t right = column_end == positions.width ? out.width : column_end * out.stride_x;
  const int64_t bottom =
      run.row + 1 == positions.height ? out.height : (run.row + 1) * out.stride_y;
  const int64_t size = right - run.column * out.stride_x;
  for (int64_t y = 0; y < bottom - run.row * out.stride_y; ++y) {
    std::fill(to + y * out.width, to + y * out.width + size, 0.0f);
  }
  for (int64_t i = 0; i < run.count; ++i) {
    to[i * out.stride_x] = values[i];
  }
}

// Computes out[r] = start[r] + sum_k left[r][k] in[k] at every position. left is packed in panels
// of kTileRows rows, [k][row], and start is padded to whole panels.
class ChannelProduct {
 public:
  ChannelProduct(const Positions& positions, const float* left, const float* start,
                 const Planes<const float>& in, const Planes<float>& out)
      : positions_(positions),
        panels_(positions.count),
        left_(left),
        start_(start),
        in_(in),
        out_(out),
        depth_(in.channels),
        row_tiles_(DivideUp(out.channels, kTileRows)),
        strips_(CountStrips()) {}

  // Positions are cut into strips. A unit of work is a group of rows of one strip.
  void Run(ParallelFor parallel_for) const {
    const int64_t groups = DivideUp(row_tiles_, kGroupTiles);
    parallel_for(strips_ * groups, [&](int64_t first, int64_t last) {
      FloatBuffer packed(DivideUp(panels_.count, strips_) * kTileColumns * depth_);
      for (int64_t unit = first; unit < last; ++unit) {
        const int64_t strip = unit / groups;
        if (unit == first || unit % groups == 0) {
          PackStrip(strip, packed.data());
        }
        const int64_t tile = unit % groups * kGroupTiles;
        MultiplyStrip(strip, tile, std::min(row_tiles_, tile + kGroupTiles), packed.data());
      }
    });
  }

 private:
  // Returns the number of strips. A packed strip should stay in the second-level cache, and there
  // should be work for several threads.
  int64_t CountStrips() const {
    const int64_t most = std::min(kStripPanels, kStripFloats / (depth_ * kTileColumns));
    const int64_t wanted = std::min(most, panels_.count / kEnoughStrips);
    return DivideUp(panels_.count, std::max<int64_t>(1, wanted));
  }
  int64_t FirstPanel(int64_t strip) const { return strip * panels_.count / strips_; }

  // Packs the panels of a strip, each [k][position].
  void PackStrip(int64_t strip, float* to) const {
    const int64_t begin = FirstPanel(strip);
    const int64_t end = FirstPanel(strip + 1);
    const int64_t first = panels_.first(begin);
    const int64_t count = panels_.first(end) - first;
    if (in_.dense() && first + count <= positions_.count && positions_.InOneRow(first, count)) {
      PackRow(strip, in_.At(positions_.RunAt(first, count), 0), to);
      return;
    }
    for (int64_t panel = begin; panel < end; ++panel) {
      PackPanel(panel, to);
      to += depth_ * kTileColumns;
    }
  }

  // Packs a strip whose positions are neighbours in memory. The channels' planes lie far apart, often
  // at a power of two, so that few of their lines fit in a cache together. So all that the strip
  // needs of a plane is read at once.
  void PackRow(int64_t strip, const float* __restrict from, float* __restrict to) const {
    const int64_t begin = FirstPanel(strip);
    const int64_t end = FirstPanel(strip + 1);
    const int64_t count = panels_.first(end) - panels_.first(begin);
    for (int64_t k = 0; k < depth_; ++k, from += in_.plane()) {
      for (int64_t i = 0; i < count; i += kLineFloats) {
        __builtin_prefetch(from + kPackAhead * in_.plane() + i);
      }
      const float* source = from;
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t width = panels_.width(panel);
        float* const place = to + (panel - begin) * kTileColumns * depth_ + k * width;
        for (int64_t i = 0; i < width; i += kVectorWidth) {
          StoreVector(place + i, LoadVector(source + i));
        }
        source += width;
      }
    }
  }

  void PackPanel(int64_t panel, float* to) const {
    const int64_t first = panels_.first(panel);
    const int64_t width = panels_.width(panel);
    const int64_t filled = panels_.filled(panel);
    if (filled < width) {
      std::fill(to, to + width * depth_, 0.0f);
    }
    positions_.ForEachRun(first, first + filled, [&](const PositionRun& run) {
      const float* from = in_.At(run, 0);
      for (int64_t k = 0; k < depth_; ++k) {
        CopyStrided(from + k * in_.plane(), in_.stride_x, run.count, to + k * width + run.at);
      }
    });
  }

  // Computes tiles of rows [tile_begin, tile_end) of a packed strip. Meanwhile every product
  // prefetches a column of cache lines of the next strip.
  void MultiplyStrip(int64_t strip, int64_t tile_begin, int64_t tile_end,
                     const float* packed) const {
    const int64_t begin = FirstPanel(strip);
    const int64_t end = FirstPanel(strip + 1);
    const int64_t line = std::max<int64_t>(1, kLineFloats / in_.stride_x);
    const int64_t next_end =
        strip + 1 < strips_ ? panels_.first(FirstPanel(strip + 2)) : panels_.first(end);
    int64_t next = panels_.first(end) + tile_begin * (end - begin) * line;
    for (int64_t panel = begin; panel < end; ++panel) {  // a panel stays in the first-level cache
      const float* right = packed + (panel - begin) * kTileColumns * depth_;
      for (int64_t tile = tile_begin; tile < tile_end; ++tile, next += line) {
        const PrefetchColumn prefetch = next < std::min(next_end, positions_.count)
            ? PrefetchColumn{in_.At(positions_.RunAt(next, 1), 0), in_.plane()}
            : PrefetchColumn{right, 0};
        MultiplyPanel(tile, panel, right, prefetch);
      }
    }
  }

  // Computes a tile of rows at the positions of a panel.
  void MultiplyPanel(int64_t tile, int64_t panel, const float* right,
                     const PrefetchColumn& prefetch) const {
    const float* left = left_ + tile * kTileRows * depth_;
    const int64_t first = panels_.first(panel);
    const int64_t filled = panels_.filled(panel);
    const int64_t width = panels_.width(panel);
    const int64_t row = tile * kTileRows;
    const int64_t rows = std::min<int64_t>(kTileRows, out_.channels - row);
    if (rows == kTileRows && filled == width && out_.dense() && positions_.InOneRow(first, width)) {
      float* to = out_.At(positions_.RunAt(first, width), row);
      Multiply(width, left, right, start_ + row, prefetch, to, out_.plane());
      return;
    }
    float tile_sums[kTileRows * kTileColumns];
    Multiply(width, left, right, start_ + row, prefetch, tile_sums, width);
    positions_.ForEachRun(first, first + filled, [&](const PositionRun& run) {
      for (int64_t i = 0; i < rows; ++i) {
        WriteRun(positions_, run, out_, row + i, tile_sums + i * width + run.at);
      }
    });
  }

  // Computes a tile whose panel is `width` positions wide.
  void Multiply(int64_t width, const float* left, const float* right, const float* start,
                const PrefetchColumn& prefetch, float* c, int64_t c_stride) const {
    switch (width / kVectorWidth) {
      case 1:
        return MultiplyInto<1>(depth_, left, right, start, prefetch, c, c_stride);
      case 2:
        return MultiplyInto<2>(depth_, left, right, start, prefetch, c, c_stride);
      default:
        return MultiplyInto<3>(depth_, left, right, start, prefetch, c, c_stride);
    }
  }

  const Positions positions_;
  const VectorPanels panels_;
  const float* left_;
  const float* start_;
  const Planes<const float> in_;
  const Planes<float> out_;
  const int64_t depth_;
  const int64_t row_tiles_;
  const int64_t strips_;
};

}  // namespace

void PointwiseConvolution(const PointwiseShape& given, const float* x, const float* filter,
                          const float* bias, float* y, ParallelFor parallel_for) {
  const PointwiseShape shape = Flattened(given);
  const int64_t rows = RoundUp(shape.out_channels, kTileRows);
  FloatBuffer left(rows * shape.in_channels);
  ForEachBlock(parallel_for, shape.out_channels, kTileRows, [&](int64_t begin, int64_t end) {
    PackTransposedPanels<kTileRows>(filter + begin * shape.in_channels, shape.in_channels,
                                    end - begin, shape.in_channels,
                                    left.data() + begin * shape.in_channels);
  });
  std::vector<float> start(rows, 0.0f);
  if (bias != nullptr) {
    std::copy(bias, bias + shape.out_channels, start.begin());
  }
  ChannelProduct(Positions(shape), left.data(), start.data(), InputPlanes(shape, x),
                 OutputPlanes(shape, y))
      .Run(parallel_for);
}

void PointwiseInputGradient(const PointwiseShape& given, const float* filter, const float* d_y,
                            float* d_x, ParallelFor parallel_for) {
  const PointwiseShape shape = Flattened(given);
  const int64_t rows = RoundUp(shape.in_channels, kTileRows);
  FloatBuffer left(rows * shape.out_channels);
  ForEachBlock(parallel_for, shape.in_channels, kGroupTiles * kTileRows,
               [&](int64_t begin, int64_t end) {
                 PackPanels<kTileRows>(filter + begin, shape.in_channels, shape.out_channels,
                                       end - begin, left.data() + begin * shape.out_channels);
               });
  const std::vector<float> start(rows, 0.0f);
  ChannelProduct(Positions(shape), left.data(), start.data(), OutputPlanes(shape, d_y),
                 InputPlanes(shape, d_x))
      .Run(parallel_for);
}

}  // namespace detectron_ext
