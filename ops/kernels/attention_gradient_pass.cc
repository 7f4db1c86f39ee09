#include "kernels/attention_gradient_pass.h"

#include <algorithm>

#include "kernels/block_product.h"
#include "kernels/elementary.h"

namespace detectron_ext {
namespace {

constexpr int64_t kKeyBand = 192;     // the most positions j of a band
constexpr int64_t kQueryBlock = 96;   // positions i of one unit of work of the first stage
constexpr int64_t kDepthBlock = 512;  // positions i taken at a time in the second stage
// Gap between panels of queries. Without it the same channel of several panels would lie in one
// cache set.
constexpr int64_t kPanelGap = 16;
static_assert(kKeyBand % kTileColumns == 0, "a band is made of whole panels");
static_assert(kTileColumns % kTallTileRows == 0, "a panel of keys is made of whole tall tiles");
static_assert(kQueryBlock % kTileRows == 0 && kQueryBlock % kTallTileRows == 0,
              "a block of queries is made of whole tiles");
static_assert(kDepthBlock % kTileRows == 0, "a depth is made of whole panels of queries");

// Turns a row of scores (p) and a row of probability gradients (ds) into probabilities and score
// gradients. Adds the score gradients to d_biases.
void DifferentiateRow(float scale, const float* __restrict biases, float log_sum, float dot,
                      float* __restrict p, float* __restrict ds, float* __restrict d_biases) {
  for (int j = 0; j < kTileColumns; ++j) {
    const float probability = Exp(p[j] * scale + (biases[j] - log_sum));
    p[j] = probability;
    ds[j] = probability * (ds[j] - dot);
    d_biases[j] += ds[j];
  }
}

}  // namespace

AttentionGradientPass::AttentionGradientPass(const AttentionShape& shape, ParallelFor parallel_for)
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
      bias_sums_(padded_positions_ / kQueryBlock * kKeyBand),
      phi_columns_(kKeyBand * shape.channels),
      g_columns_(kKeyBand * shape.channels),
      phi_rows_(kKeyBand * channel_panels_ * kTallTileColumns),
      query_gradients_(padded_positions_ * channel_panels_ * kTallTileColumns) {}

int64_t AttentionGradientPass::MaxBandWidth() const {
  const int64_t bands = std::max<int64_t>(1, DivideUp(shape_.positions, kKeyBand));
  return RoundUp(DivideUp(shape_.positions, bands), kTileColumns);
}

void AttentionGradientPass::Start(const float* theta, const float* out, const float* log_sums,
                                  const float* d_out) {
  log_sums_ = log_sums;
  DotRows(out, d_out);
  PackQueries(theta, d_out);
  std::fill(query_gradients_.data(),
            query_gradients_.data() + padded_positions_ * channel_panels_ * kTallTileColumns, 0.0f);
}

// row_dots_[i] = sum_c out[c][i] d_out[c][i], which is sum_j p[i][j] dp[i][j].
void AttentionGradientPass::DotRows(const float* out, const float* d_out) {
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

void AttentionGradientPass::PackQueries(const float* theta, const float* d_out) {
  ForEachBlock(parallel_for_, shape_.positions, kTileRows, [&](int64_t begin, int64_t end) {
    const int64_t at = begin / kTileRows * query_panel_;
    PackPanels<kTileRows>(theta + begin, shape_.positions, shape_.channels, end - begin,
                          theta_.data() + at);
    PackPanels<kTileRows>(d_out + begin, shape_.positions, shape_.channels, end - begin,
                          d_out_.data() + at);
  });
}

void AttentionGradientPass::Run(const KeyBand& band) {
  PackBand(band);
  ForEachBlock(parallel_for_, shape_.positions, kQueryBlock,
               [&](int64_t begin, int64_t end) { VisitQueries(band, begin, end); });
  SumOverQueries(band);
  if (band.d_biases != nullptr) {
    SumBiases(band);
  }
}

void AttentionGradientPass::PackBand(const KeyBand& band) {
  ForEachBlock(parallel_for_, shape_.channels, kTallTileColumns, [&](int64_t begin, int64_t end) {
    PackPanelRows<kTileColumns>(band.phi.data, band.phi.stride, shape_.channels, band.width, begin,
                                end, phi_columns_.data());
    PackPanelRows<kTileColumns>(band.g.data, band.g.stride, shape_.channels, band.width, begin, end,
                                g_columns_.data());
    PackTransposedPanels<kTallTileColumns>(band.phi.data + begin * band.phi.stride, band.phi.stride,
                                           end - begin, band.width,
                                           phi_rows_.data() + begin * band.width);
  });
}

// Fills rows [begin, end), a block of queries, of probabilities_ and score_gradients_ and adds to
// their query_gradients_.
void AttentionGradientPass::VisitQueries(const KeyBand& band, int64_t begin, int64_t end) {
  const int64_t size = end - begin;
  for (int64_t panel = 0; panel * kTileColumns < band.width; ++panel) {
    const int64_t columns = panel * shape_.channels * kTileColumns;
    float* p = Row(probabilities_, panel, begin);
    float* ds = Row(score_gradients_, panel, begin);
    float biases[kTileColumns] = {};
    if (band.biases != nullptr) {
      const int64_t first = panel * kTileColumns;
      std::copy(band.biases + first, band.biases + std::min(band.width, first + kTileColumns),
                biases);
    }
    float d_biases[kTileColumns] = {};
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
        DifferentiateRow(shape_.scale, biases, log_sums_[begin + row],
                         row_dots_.data()[begin + row], p + row * kTileColumns,
                         ds + row * kTileColumns, d_biases);
      }
    }
    std::copy(d_biases, d_biases + kTileColumns,
              bias_sums_.data() + begin / kQueryBlock * kKeyBand + panel * kTileColumns);
  }
  AddProductsWithKeys(band.width, begin, size);
}

// Adds to the gradients of a block of queries the products of the score gradients with phi. Rows
// past the last position hold undefined numbers; their sums are never read. The sums are far apart
// in memory, so those of the next tile are prefetched while one is computed.
void AttentionGradientPass::AddProductsWithKeys(int64_t width, int64_t begin, int64_t size) {
  for (int64_t c = 0; c < channel_panels_; ++c) {
    const float* keys = phi_rows_.data() + c * width * kTallTileColumns;
    for (int64_t i = 0; i < size; i += kTallTileRows) {
      const float* next = QueryGradient(c, begin + i + kTallTileRows);
      for (int v = 0; v < kTallTileRows * kTallTileVectors; ++v) {
        __builtin_prefetch(next + v * kVectorWidth, 1);
      }
      MultiplyTile<kTallTileRows, kTallTileVectors, kTileColumns, 1, true, kTileColumns>(
          width, Row(score_gradients_, 0, begin + i), keys, QueryGradient(c, begin + i),
          padded_positions_ * kTileColumns);
    }
  }
}

// Computes the band's d_phi and d_g. The tiles of channels are numbered through: first those of
// d_phi, then those of d_g. A thread takes consecutive tiles. So a thread mostly reads only one of
// the two large buffers, and reads it once.
void AttentionGradientPass::SumOverQueries(const KeyBand& band) {
  const int64_t tiles = DivideUp(shape_.channels, kTileRows);
  parallel_for_(2 * tiles, [&](int64_t first, int64_t last) {
    if (first < tiles) {
      SumTiles(band, theta_, score_gradients_, first, std::min(last, tiles), shape_.scale,
               band.d_phi);
    }
    if (last > tiles) {
      SumTiles(band, d_out_, probabilities_, std::max(first, tiles) - tiles, last - tiles, 1.0f,
               band.d_g);
    }
  });
}

// d_key[c][j] = factor * sum_i query[c][i] weights[i][j] for the channels of tiles
// [first_tile, last_tile).
void AttentionGradientPass::SumTiles(const KeyBand& band, const FloatBuffer& query,
                                     const FloatBuffer& weights, int64_t first_tile,
                                     int64_t last_tile, float factor, MapPart<float> d_key) const {
  constexpr int64_t kTile = kTileRows * kTileColumns;
  constexpr int64_t kQueryTile = kTileRows * kTileRows;
  const int64_t panels = DivideUp(band.width, kTileColumns);
  const int64_t tiles = last_tile - first_tile;
  FloatBuffer sums(panels * tiles * kTile);  // [panel of j][channel][j]
  std::fill(sums.data(), sums.data() + panels * tiles * kTile, 0.0f);
  for (int64_t start = 0; start < shape_.positions; start += kDepthBlock) {
    const int64_t depth = std::min(kDepthBlock, shape_.positions - start);
    const float* left = query.data() + start / kTileRows * query_panel_ + first_tile * kQueryTile;
    for (int64_t panel = 0; panel < panels; ++panel) {
      for (int64_t tile = 0; tile < tiles; ++tile) {
        MultiplyTile<kTileRows, kTileVectors, kTileRows, 1, true, kTileRows>(
            depth, left + tile * kQueryTile, Row(weights, panel, start),
            sums.data() + (panel * tiles + tile) * kTile, query_panel_);
      }
    }
  }
  const int64_t end = std::min(last_tile * kTileRows, shape_.channels);
  for (int64_t panel = 0; panel < panels; ++panel) {
    const float* from = sums.data() + panel * tiles * kTile;
    const int64_t width = std::min<int64_t>(kTileColumns, band.width - panel * kTileColumns);
    for (int64_t channel = first_tile * kTileRows; channel < end; ++channel) {
      float* to = d_key.data + channel * d_key.stride + panel * kTileColumns;
      for (int64_t j = 0; j < width; ++j) {
        to[j] = factor * from[j];
      }
      from += kTileColumns;
    }
  }
}

void AttentionGradientPass::SumBiases(const KeyBand& band) const {
  std::fill(band.d_biases, band.d_biases + band.width, 0.0f);
  for (int64_t block = 0; block * kQueryBlock < shape_.positions; ++block) {
    for (int64_t j = 0; j < band.width; ++j) {
      band.d_biases[j] += bias_sums_.data()[block * kKeyBand + j];
    }
  }
}

void AttentionGradientPass::AddToQueryGradients(int64_t first, int64_t width,
                                                MapPart<const float> more) {
  ForEachBlock(parallel_for_, width, kTallTileRows, [&](int64_t begin, int64_t end) {
    for (int64_t channel = 0; channel < shape_.channels; ++channel) {
      const float* from = more.data + channel * more.stride;
      float* to =
          QueryGradient(channel / kTallTileColumns, first + begin) + channel % kTallTileColumns;
      for (int64_t j = begin; j < end; ++j, to += kTallTileColumns) {
        *to += from[j];
      }
    }
  });
}

void AttentionGradientPass::FreeBands() {
  theta_ = FloatBuffer(0);
  d_out_ = FloatBuffer(0);
  probabilities_ = FloatBuffer(0);
  score_gradients_ = FloatBuffer(0);
}

void AttentionGradientPass::WriteQueryGradients(const float* plus, float* d_theta) const {
  ForEachBlock(parallel_for_, shape_.positions, kTallTileRows, [&](int64_t begin, int64_t end) {
    for (int64_t channel = 0; channel < shape_.channels; ++channel) {
      const float* from =
          QueryGradient(channel / kTallTileColumns, begin) + channel % kTallTileColumns;
      const int64_t row = channel * shape_.positions;
      for (int64_t i = begin; i < end; ++i, from += kTallTileColumns) {
        d_theta[row + i] = shape_.scale * *from + (plus != nullptr ? plus[row + i] : 0.0f);
      }
    }
  });
}

// Returns the row of query i in a panel of a band.
const float* AttentionGradientPass::Row(const FloatBuffer& band, int64_t panel, int64_t i) const {
  return band.data() + (panel * padded_positions_ + i) * kTileColumns;
}
float* AttentionGradientPass::Row(FloatBuffer& band, int64_t panel, int64_t i) {
  return band.data() + (panel * padded_positions_ + i) * kTileColumns;
}

// Returns the tile that starts at query i, for a panel of channels.
const float* AttentionGradientPass::QueryGradient(int64_t channel_panel, int64_t i) const {
  return query_gradients_.data() +
      (i * channel_panels_ + channel_panel * kTallTileRows) * kTallTileColumns;
}
float* AttentionGradientPass::QueryGradient(int64_t channel_panel, int64_t i) {
  return query_gradients_.data() +
      (i * channel_panels_ + channel_panel * kTallTileRows) * kTallTileColumns;
}

}  // namespace detectron_ext
