// Backward attention, in bands of keys j. A band's probabilities p and score gradients ds are
// computed for all queries i and held as [panel of j][i][j]; so they are, as they lie, either
// side of the products
//
//   d_theta[i] += sum_j ds[i][j] phi[j]      (a thread owns a block of i)
//   d_phi[j] = sum_i theta[i] ds[i][j]       (a thread owns a group of channels)
//   d_g[j] = sum_i d_out[i] p[i][j]
//
// and each sum has one owner and one order.
#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/block_product.h"
#include "kernels/formulas.h"
#include "kernels/packing.h"

namespace detectron_ext {
namespace {

constexpr int64_t kKeyBand = 384;      // positions j of a band, at most
constexpr int64_t kQueryBlock = 96;    // positions i of one unit of work of the first stage
constexpr int64_t kChannelGroup = 32;  // channels of one unit of work of the second stage
constexpr int64_t kDepthBlock = 256;   // positions i taken at a time in the second stage
static_assert(kKeyBand % kTileColumns == 0, "a band is made of whole panels");
static_assert(kQueryBlock % kTileRows == 0 && kQueryBlock % kTallTileRows == 0,
              "a block of queries is made of whole tiles");
static_assert(kChannelGroup % kTileRows == 0, "a group of channels is made of whole tiles");

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
        row_dots_(shape.positions),
        probabilities_(kKeyBand * padded_positions_),
        score_gradients_(kKeyBand * padded_positions_),
        phi_columns_(kKeyBand * shape.channels),
        g_columns_(kKeyBand * shape.channels),
        phi_rows_(kKeyBand * channel_panels_ * kTallTileColumns),
        query_gradients_(padded_positions_ * channel_panels_ * kTallTileColumns) {}

  void Run(const Image& image, const float* out) {
    DotRows(out, image.d_out);
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
      ForEachBlock(parallel_for_, shape_.channels, kChannelGroup,
                   [&](int64_t begin, int64_t end) {
        SumOverQueries(image.theta, score_gradients_, begin, end, shape_.scale, image.d_phi);
        SumOverQueries(image.d_out, probabilities_, begin, end, 1.0f, image.d_g);
      });
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
    FloatBuffer queries(kQueryBlock * shape_.channels);
    FloatBuffer d_outs(kQueryBlock * shape_.channels);
    PackPanels<kTileRows>(image.theta + begin, shape_.positions, shape_.channels, size,
                          queries.data());
    PackPanels<kTileRows>(image.d_out + begin, shape_.positions, shape_.channels, size,
                          d_outs.data());
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const int64_t columns = panel * shape_.channels * kTileColumns;
      float* p = row(probabilities_, panel, begin);
      float* ds = row(score_gradients_, panel, begin);
      for (int64_t i = 0; i < size; i += kTileRows) {
        MultiplyTile<kTileRows, kTileVectors, 1, kTileRows, false>(
            shape_.channels, queries.data() + i * shape_.channels, phi_columns_.data() + columns,
            p + i * kTileColumns);
        MultiplyTile<kTileRows, kTileVectors, 1, kTileRows, false>(
            shape_.channels, d_outs.data() + i * shape_.channels, g_columns_.data() + columns,
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

  // Rows past the last position hold whatever was there; their sums are never read.
  void AddQueryGradients(int64_t begin, int64_t size) {
    for (int64_t c = 0; c < channel_panels_; ++c) {
      const float* keys = phi_rows_.data() + c * width_ * kTallTileColumns;
      for (int64_t i = 0; i < size; i += kTallTileRows) {
        MultiplyTile<kTallTileRows, kTallTileVectors, kTileColumns, 1, true, kTileColumns>(
            width_, row(score_gradients_, 0, begin + i), keys, query_gradient(c, begin + i),
            padded_positions_ * kTileColumns);
      }
    }
  }

  // d_key[c][first_ ...] = factor * sum_i query[c][i] weights[i] for channels [begin, end).
  void SumOverQueries(const float* query, const FloatBuffer& weights, int64_t begin, int64_t end,
                      float factor, float* d_key) const {
    constexpr int64_t kTile = kTileRows * kTileColumns;
    float left[kTileRows * kDepthBlock] = {};
    FloatBuffer sums(panels_ * kChannelGroup * kTileColumns);
    std::fill(sums.data(), sums.data() + panels_ * kChannelGroup * kTileColumns, 0.0f);
    for (int64_t start = 0; start < shape_.positions; start += kDepthBlock) {
      const int64_t depth = std::min(kDepthBlock, shape_.positions - start);
      for (int64_t channel = begin; channel < end; channel += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, end - channel);
        for (int64_t r = 0; r < rows; ++r) {
          const float* from = query + (channel + r) * shape_.positions + start;
          std::copy(from, from + depth, left + r * kDepthBlock);
        }
        for (int64_t panel = 0; panel < panels_; ++panel) {
          float* tile = sums.data() +
              (panel * (kChannelGroup / kTileRows) + (channel - begin) / kTileRows) * kTile;
          MultiplyTile<kTileRows, kTileVectors, kDepthBlock, 1, true>(
              depth, left, row(weights, panel, start), tile);
        }
      }
    }
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const float* from = sums.data() + panel * kChannelGroup * kTileColumns;
      const int64_t width = std::min<int64_t>(kTileColumns, width_ - panel * kTileColumns);
      for (int64_t channel = begin; channel < end; ++channel, from += kTileColumns) {
        float* to = d_key + channel * shape_.positions + first_ + panel * kTileColumns;
        for (int64_t j = 0; j < width; ++j) {
          to[j] = factor * from[j];
        }
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
