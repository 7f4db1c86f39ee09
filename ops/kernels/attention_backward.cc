// Backward attention, in bands of keys j. A band's probabilities p and score gradients ds are
// computed for all queries i and held as [panel of j][i][j]; so they are, as they lie, either
// side of the products
//
//   d_theta[i] += sum_j ds[i][j] phi[j]      (a thread owns blocks of i)
//   d_phi[j] = sum_i theta[i] ds[i][j]       (a thread owns channels)
//   d_g[j] = sum_i d_out[i] p[i][j]
//
// and each sum has one owner and one order. theta and d_out, which every band reads twice, are
// packed once, as [panel of i][channel][i]; this too is either side of a product.
#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/block_product.h"
#include "kernels/formulas.h"
#include "kernels/packing.h"

namespace detectron_ext {
namespace {

constexpr int64_t kKeyBand = 192;      // positions j of a band, at most
constexpr int64_t kQueryBlock = 96;    // positions i of one unit of work of the first stage
constexpr int64_t kDepthBlock = 512;   // positions i taken at a time in the second stage
// Between panels of queries, so that the same channels of several do not meet in one cache set.
constexpr int64_t kPanelGap = 16;
static_assert(kKeyBand % kTileColumns == 0, "a band is made of whole panels");
static_assert(kQueryBlock % kTileRows == 0 && kQueryBlock % kTallTileRows == 0,
              "a block of queries is made of whole tiles");
static_assert(kDepthBlock % kTileRows == 0, "a depth is made of whole panels of queries");

// The pointers of one image.
struct Image {
  const float* theta;
  const float* phi;
  const float* g;
  const float* log_sums;
  const float* d_out;
  float* d_theta;
  float* d_phi;
  float* d_g;
};

// Turns a row of scores and one of probability gradients into probabilities and score gradients.
void DifferentiateRow(float scale, float log_sum, float dot, float* __restrict p,
                      float* __restrict ds) {
  for (int j = 0; j < kTileColumns; ++j) {
    const float probability = Exp(p[j] * scale - log_sum);
    p[j] = probability;
    ds[j] = probability * (ds[j] - dot);
  }
}

class BackwardPass {
 public:
  BackwardPass(const AttentionShape& shape, ParallelFor parallel_for)
      : shape_(shape),
        parallel_for_(parallel_for),
        padded_positions_(RoundUp(shape.positions, kQueryBlock)),
        channel_panels_(DivideUp(shape.channels, kTallTileColumns)),
        query_panel_(RoundUp(shape.channels, kTileRows) * kTileRows + kPanelGap),
        theta_(padded_positions_ / kTileRows * query_panel_),
        d_out_(padded_positions_ / kTileRows * query_panel_),
        row_dots_(shape.positions),
        probabilities_(kKeyBand * padded_positions_),
        score_gradients_(kKeyBand * padded_positions_),
        phi_columns_(kKeyBand * shape.channels),
        g_columns_(kKeyBand * shape.channels),
        phi_rows_(kKeyBand * channel_panels_ * kTallTileColumns),
        query_gradients_(padded_positions_ * channel_panels_ * kTallTileColumns) {}

  void Run(const Image& image, const float* out) {
    DotRows(out, image.d_out);
    PackQueries(image);
    std::fill(query_gradients_.data(),
              query_gradients_.data() + padded_positions_ * channel_panels_ * kTallTileColumns,
              0.0f);
    // Bands of like size: the last one is not a sliver.
    const int64_t bands = DivideUp(shape_.positions, kKeyBand);
    const int64_t band = RoundUp(DivideUp(shape_.positions, bands), kTileColumns);
    for (int64_t first = 0; first < shape_.positions; first += band) {
      first_ = first;
      width_ = std::min(band, shape_.positions - first);
      panels_ = DivideUp(width_, kTileColumns);
      PackBand(image);
      ForEachBlock(parallel_for_, shape_.positions, kQueryBlock,
                   [&](int64_t begin, int64_t end) { VisitQueries(image, begin, end); });
      SumOverQueries(image);
    }
    WriteQueryGradients(image.d_theta);
  }

 private:
  // row_dots_[i] = sum_c out[c][i] d_out[c][i], which is sum_j p[i][j] dp[i][j].
  void DotRows(const float* out, const float* d_out) {
    ForEachBlock(parallel_for_, shape_.positions, kDepthBlock, [&](int64_t begin, int64_t end) {
      std::fill(row_dots_.data() + begin, row_dots_.data() + end, 0.0f);
      for (int64_t channel = 0; channel < shape_.channels; ++channel) {
        const int64_t row = channel * shape_.positions;
        for (int64_t i = begin; i < end; ++i) {
          row_dots_.data()[i] += out[row + i] * d_out[row + i];
        }
      }
    });
  }

  void PackQueries(const Image& image) {
    ForEachBlock(parallel_for_, shape_.positions, kTileRows, [&](int64_t begin, int64_t end) {
      const int64_t at = begin / kTileRows * query_panel_;
      PackPanels<kTileRows>(image.theta + begin, shape_.positions, shape_.channels, end - begin,
                            theta_.data() + at);
      PackPanels<kTileRows>(image.d_out + begin, shape_.positions, shape_.channels, end - begin,
                            d_out_.data() + at);
    });
  }

  void PackBand(const Image& image) {
    const float* phi = image.phi + first_;
    const float* g = image.g + first_;
    ForEachBlock(parallel_for_, shape_.channels, kTallTileColumns,
                 [&](int64_t begin, int64_t end) {
      PackPanelRows<kTileColumns>(phi, shape_.positions, shape_.channels, width_, begin, end,
                                  phi_columns_.data());
      PackPanelRows<kTileColumns>(g, shape_.positions, shape_.channels, width_, begin, end,
                                  g_columns_.data());
      PackTransposedPanels<kTallTileColumns>(phi + begin * shape_.positions, shape_.positions,
                                             end - begin, width_,
                                             phi_rows_.data() + begin * width_);
    });
  }

  // Fills rows [begin, end) of probabilities_ and score_gradients_ and adds to their
  // query_gradients_.
  void VisitQueries(const Image& image, int64_t begin, int64_t end) {
    const int64_t size = end - begin;
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const int64_t columns = panel * shape_.channels * kTileColumns;
      float* p = row(probabilities_, panel, begin);
      float* ds = row(score_gradients_, panel, begin);
      for (int64_t i = 0; i < size; i += kTileRows) {
        const int64_t queries = (begin + i) / kTileRows * query_panel_;
        MultiplyTile<kTileRows, kTileVectors, 1, kTileRows, false>(
            shape_.channels, theta_.data() + queries, phi_columns_.data() + columns,
            p + i * kTileColumns);
        MultiplyTile<kTileRows, kTileVectors, 1, kTileRows, false>(
            shape_.channels, d_out_.data() + queries, g_columns_.data() + columns,
            ds + i * kTileColumns);
        const int64_t rows = std::min<int64_t>(kTileRows, size - i);
        for (int64_t row = i; row < i + rows; ++row) {
          DifferentiateRow(shape_.scale, image.log_sums[begin + row],
                           row_dots_.data()[begin + row], p + row * kTileColumns,
                           ds + row * kTileColumns);
        }
      }
    }
    AddQueryGradients(begin, size);
  }

  // Rows past the last position hold whatever was there; their sums are never read. The sums lie
  // far off: the next tile's are fetched while one is computed.
  void AddQueryGradients(int64_t begin, int64_t size) {
    for (int64_t c = 0; c < channel_panels_; ++c) {
      const float* keys = phi_rows_.data() + c * width_ * kTallTileColumns;
      for (int64_t i = 0; i < size; i += kTallTileRows) {
        const float* next = query_gradient(c, begin + i + kTallTileRows);
        for (int v = 0; v < kTallTileRows * kTallTileVectors; ++v) {
          __builtin_prefetch(next + v * kVectorWidth, 1);
        }
        MultiplyTile<kTallTileRows, kTallTileVectors, kTileColumns, 1, true, kTileColumns>(
            width_, row(score_gradients_, 0, begin + i), keys, query_gradient(c, begin + i),
            padded_positions_ * kTileColumns);
      }
    }
  }

  // The band's d_phi and d_g. Their tiles of channels stand in one row and a thread takes a run
  // of it, so that each of few threads reads one of the two large buffers, and that once.
  void SumOverQueries(const Image& image) {
    const int64_t tiles = DivideUp(shape_.channels, kTileRows);
    parallel_for_(2 * tiles, [&](int64_t first, int64_t last) {
      if (first < tiles) {
        SumTiles(theta_, score_gradients_, first, std::min(last, tiles), shape_.scale,
                 image.d_phi);
      }
      if (last > tiles) {
        SumTiles(d_out_, probabilities_, std::max(first, tiles) - tiles, last - tiles, 1.0f,
                 image.d_g);
      }
    });
  }

  // d_key[c][first_ ...] = factor * sum_i query[c][i] weights[i] for the channels of tiles
  // [first_tile, last_tile).
  void SumTiles(const FloatBuffer& query, const FloatBuffer& weights, int64_t first_tile,
                int64_t last_tile, float factor, float* d_key) const {
    constexpr int64_t kTile = kTileRows * kTileColumns;
    constexpr int64_t kQueryTile = kTileRows * kTileRows;
    const int64_t tiles = last_tile - first_tile;
    FloatBuffer sums(panels_ * tiles * kTile);  // [panel of j][channel][j]
    std::fill(sums.data(), sums.data() + panels_ * tiles * kTile, 0.0f);
    for (int64_t start = 0; start < shape_.positions; start += kDepthBlock) {
      const int64_t depth = std::min(kDepthBlock, shape_.positions - start);
      const float* left =
          query.data() + start / kTileRows * query_panel_ + first_tile * kQueryTile;
      for (int64_t panel = 0; panel < panels_; ++panel) {
        for (int64_t tile = 0; tile < tiles; ++tile) {
          MultiplyTile<kTileRows, kTileVectors, kTileRows, 1, true, kTileRows>(
              depth, left + tile * kQueryTile, row(weights, panel, start),
              sums.data() + (panel * tiles + tile) * kTile, query_panel_);
        }
      }
    }
    const int64_t end = std::min(last_tile * kTileRows, shape_.channels);
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const float* from = sums.data() + panel * tiles * kTile;
      const int64_t width = std::min<int64_t>(kTileColumns, width_ - panel * kTileColumns);
      for (int64_t channel = first_tile * kTileRows; channel < end; ++channel) {
        float* to = d_key + channel * shape_.positions + first_ + panel * kTileColumns;
        for (int64_t j = 0; j < width; ++j) {
          to[j] = factor * from[j];
        }
        from += kTileColumns;
      }
    }
  }

  void WriteQueryGradients(float* d_theta) {
    ForEachBlock(parallel_for_, shape_.positions, kTallTileRows, [&](int64_t begin, int64_t end) {
      for (int64_t channel = 0; channel < shape_.channels; ++channel) {
        const float* from = query_gradient(channel / kTallTileColumns, begin) +
            channel % kTallTileColumns;
        for (int64_t i = begin; i < end; ++i, from += kTallTileColumns) {
          d_theta[channel * shape_.positions + i] = shape_.scale * *from;
        }
      }
    });
  }

  // The row of query i in a panel of a band.
  const float* row(const FloatBuffer& band, int64_t panel, int64_t i) const {
    return band.data() + (panel * padded_positions_ + i) * kTileColumns;
  }
  float* row(FloatBuffer& band, int64_t panel, int64_t i) {
    return band.data() + (panel * padded_positions_ + i) * kTileColumns;
  }
  // The tile of query i, the first of its tile, and a panel of channels.
  float* query_gradient(int64_t channel_panel, int64_t i) {
    return query_gradients_.data() +
        (i * channel_panels_ + channel_panel * kTallTileRows) * kTallTileColumns;
  }

  const AttentionShape& shape_;
  const ParallelFor parallel_for_;
  const int64_t padded_positions_;
  const int64_t channel_panels_;
  const int64_t query_panel_;  // from one panel of queries to the next
  FloatBuffer theta_;          // [panel of i][channel][i]
  FloatBuffer d_out_;          // [panel of i][channel][i]
  FloatBuffer row_dots_;
  FloatBuffer probabilities_;    // [panel of j][i][j]
  FloatBuffer score_gradients_;  // [panel of j][i][j]
  FloatBuffer phi_columns_;      // [panel of j][channel][j]
  FloatBuffer g_columns_;        // [panel of j][channel][j]
  FloatBuffer phi_rows_;         // [panel of channels][j][channel]
  FloatBuffer query_gradients_;  // [tile of i][panel of channels][i][channel]
  int64_t first_ = 0;            // the band's keys are [first_, first_ + width_)
  int64_t width_ = 0;
  int64_t panels_ = 0;
};

}  // namespace

void AttentionGradient(const AttentionShape& shape, const float* theta, const float* phi,
                       const float* g, const float* out, const float* log_sums,
                       const float* d_out, float* d_theta, float* d_phi, float* d_g,
                       ParallelFor parallel_for) {
  if (shape.positions == 0) {
    return;
  }
  BackwardPass pass(shape, parallel_for);
  for (int64_t image = 0; image < shape.images; ++image) {
    const int64_t at = image * shape.image_size();
    pass.Run({theta + at, phi + at, g + at, log_sums + image * shape.positions, d_out + at,
              d_theta + at, d_phi + at, d_g + at},
             out + at);
  }
}

}  // namespace detectron_ext
