// Forward attention. Scores are stored transposed, [j][i], with i along vectors. So the softmax
// over j needs no reduction inside a vector. A block of probabilities already has the order of the
// right factor of the product with g, so it is not copied.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/block_product.h"
#include "kernels/elementary.h"
#include "kernels/packing.h"

namespace detectron_ext {
namespace {

constexpr int64_t kQueryBlock = 96;  // positions i of one unit of work
constexpr int64_t kKeyBlock = 256;   // positions j whose scores are in memory at a time
constexpr int64_t kQueryPanels = kQueryBlock / kTileColumns;
static_assert(kQueryBlock % kTileColumns == 0, "a block of queries is made of whole panels");
static_assert(kKeyBlock % kTileRows == 0, "a block of keys is made of whole tiles");

// One image's phi and g, packed in the order of the products and shared by all threads.
struct PackedKeys {
  PackedKeys(const AttentionShape& shape)
      : phi(RoundUp(shape.positions, kTileRows) * shape.channels),
        g(RoundUp(shape.channels, kTileRows) * shape.positions) {}
  FloatBuffer phi;  // [panel of j][channel][kTileRows]
  FloatBuffer g;    // [panel of channels][j][kTileRows]

  // Packs an image. Without with_g the buffer `g` stays as it is.
  void Pack(const AttentionShape& shape, const float* phi_image, const float* g_image, bool with_g,
            ParallelFor parallel_for) {
    const int64_t panel = kTileRows * shape.channels;
    ForEachBlock(parallel_for, shape.positions, kKeyBlock, [&](int64_t begin, int64_t end) {
      PackPanels<kTileRows>(phi_image + begin, shape.positions, shape.channels, end - begin,
                            phi.data() + begin / kTileRows * panel);
    });
    if (!with_g) {
      return;
    }
    ForEachBlock(parallel_for, shape.channels, kTileRows, [&](int64_t begin, int64_t end) {
      PackTransposedPanels<kTileRows>(g_image + begin * shape.positions, shape.positions,
                                      end - begin, shape.positions,
                                      g.data() + begin * shape.positions);
    });
  }
};

// A block of queries and its sums over the keys visited so far.
class QueryBlock {
 public:
  QueryBlock(const AttentionShape& shape, const float* theta_image, int64_t begin, int64_t end)
      : shape_(shape),
        begin_(begin),
        size_(end - begin),
        panels_(DivideUp(size_, kTileColumns)),
        channel_panels_(DivideUp(shape.channels, kTileRows)),
        queries_(panels_ * shape.channels * kTileColumns),
        scores_(panels_ * kKeyBlock * kTileColumns),
        sums_(panels_ * channel_panels_ * kTileRows * kTileColumns) {
    PackPanels<kTileColumns>(theta_image + begin, shape.positions, shape.channels, size_,
                             queries_.data());
    for (int64_t i = 0; i < panels_ * shape.channels * kTileColumns; ++i) {
      queries_.data()[i] *= shape.scale;
    }
    std::fill(sums_.data(), tile(panels_, 0), 0.0f);
    std::fill(maximum_, maximum_ + kQueryBlock, -std::numeric_limits<float>::infinity());
    std::fill(total_, total_ + kQueryBlock, 0.0f);
  }

  // Adds the keys [first, first + count), count <= kKeyBlock, whose biases are `biases`. Without
  // with_sums only the softmax's denominators are computed.
  void Visit(const PackedKeys& keys, const float* biases, int64_t first, int64_t count,
             bool with_sums) {
    Score(keys, first, count);
    for (int64_t panel = 0; panel < panels_; ++panel) {
      Exponentiate(panel, biases, count);
      if (with_sums) {
        AddWeighted(keys, panel, first, count);
      }
    }
  }

  void WriteLogSums(float* log_sums) const {
    for (int64_t i = 0; i < size_; ++i) {
      log_sums[begin_ + i] = maximum_[i] + std::log(total_[i]);
    }
  }

  void WriteOut(float* out_image) const {
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const int64_t first = panel * kTileColumns;
      const int64_t width = std::min<int64_t>(kTileColumns, size_ - first);
      for (int64_t channel = 0; channel < shape_.channels; ++channel) {
        const float* sums = tile(panel, 0) + channel * kTileColumns;
        float* out = out_image + channel * shape_.positions + begin_ + first;
        for (int64_t i = 0; i < width; ++i) {
          out[i] = sums[i] / total_[first + i];
        }
      }
    }
  }

 private:
  // The sums of a panel of queries and a panel of channels.
  const float* tile(int64_t panel, int64_t channel_panel) const {
    return sums_.data() + (panel * channel_panels_ + channel_panel) * kTileRows * kTileColumns;
  }
  float* tile(int64_t panel, int64_t channel_panel) {
    return const_cast<float*>(static_cast<const QueryBlock*>(this)->tile(panel, channel_panel));
  }

  // Writes scores_[panel][j - first][i] for all panels. Rows up to the next whole tile hold zeros
  // or later keys; they are not read.
  void Score(const PackedKeys& keys, int64_t first, int64_t count) {
    for (int64_t j = 0; j < count; j += kTileRows) {
      const float* left = keys.phi.data() + (first + j) * shape_.channels;
      for (int64_t panel = 0; panel < panels_; ++panel) {
        MultiplyTile<kTileRows, kTileVectors, 1, kTileRows, false>(
            shape_.channels, left, queries_.data() + panel * shape_.channels * kTileColumns,
            scores_.data() + (panel * kKeyBlock + j) * kTileColumns);
      }
    }
  }

  // Turns a panel's scores into exp(score + bias - maximum so far) and adds them to total_. If a
  // maximum has grown, the earlier sums, which are relative to the smaller maximum, are scaled down
  // first.
  void Exponentiate(int64_t panel, const float* biases, int64_t count) {
    float* scores = scores_.data() + panel * kKeyBlock * kTileColumns;
    float* maximum = maximum_ + panel * kTileColumns;
    float* total = total_ + panel * kTileColumns;
    float raised[kTileColumns];
    std::copy(maximum, maximum + kTileColumns, raised);
    for (int64_t j = 0; j < count; ++j) {
      const float* row = scores + j * kTileColumns;
      for (int i = 0; i < kTileColumns; ++i) {
        const float score = row[i] + biases[j];
        raised[i] = score > raised[i] ? score : raised[i];
      }
    }
    if (!std::equal(raised, raised + kTileColumns, maximum)) {
      ScaleDown(panel, raised);
    }
    float sum[kTileColumns] = {};
    for (int64_t j = 0; j < count; ++j) {
      float* row = scores + j * kTileColumns;
      for (int i = 0; i < kTileColumns; ++i) {
        row[i] = Exp(row[i] + biases[j] - raised[i]);
        sum[i] += row[i];
      }
    }
    for (int i = 0; i < kTileColumns; ++i) {
      total[i] += sum[i];
    }
  }

  // Replaces a panel's maxima by larger or equal ones, `raised`, and scales its sums to match.
  void ScaleDown(int64_t panel, const float* raised) {
    float* maximum = maximum_ + panel * kTileColumns;
    float* total = total_ + panel * kTileColumns;
    float factor[kTileColumns];
    for (int i = 0; i < kTileColumns; ++i) {
      factor[i] = Exp(maximum[i] - raised[i]);
      maximum[i] = raised[i];
      total[i] *= factor[i];
    }
    float* row = tile(panel, 0);
    for (int64_t rows = channel_panels_ * kTileRows; rows > 0; --rows, row += kTileColumns) {
      for (int i = 0; i < kTileColumns; ++i) {
        row[i] *= factor[i];
      }
    }
  }

  // Adds to a panel's sums the g of the keys, weighted with the exponentials in scores_.
  void AddWeighted(const PackedKeys& keys, int64_t panel, int64_t first, int64_t count) {
    const float* weights = scores_.data() + panel * kKeyBlock * kTileColumns;
    for (int64_t c = 0; c < channel_panels_; ++c) {
      MultiplyTile<kTileRows, kTileVectors, 1, kTileRows, true>(
          count, keys.g.data() + (c * shape_.positions + first) * kTileRows, weights,
          tile(panel, c));
    }
  }

  const AttentionShape& shape_;
  const int64_t begin_;
  const int64_t size_;
  const int64_t panels_;
  const int64_t channel_panels_;
  FloatBuffer queries_;         // scale * theta: [panel][channel][i]
  FloatBuffer scores_;          // [panel][j][i]
  FloatBuffer sums_;            // unnormalised out: [panel][panel of channels][channel][i]
  float maximum_[kQueryBlock];  // the largest score of each query so far
  float total_[kQueryBlock];    // the sum of exp(score - maximum) of each query so far
};

}  // namespace

void Attention(const AttentionShape& shape, const float* theta, const float* phi, const float* g,
               const float* key_biases, float* out, float* log_sums, ParallelFor parallel_for) {
  PackedKeys keys(shape);
  const std::vector<float> no_biases(key_biases == nullptr ? shape.positions : 0);
  for (int64_t image = 0; image < shape.images; ++image) {
    const int64_t offset = image * shape.image_size();
    const float* const biases =
        key_biases == nullptr ? no_biases.data() : key_biases + image * shape.positions;
    keys.Pack(shape, phi + offset, g + offset, out != nullptr, parallel_for);
    ForEachBlock(parallel_for, shape.positions, kQueryBlock, [&](int64_t begin, int64_t end) {
      QueryBlock queries(shape, theta + offset, begin, end);
      for (int64_t first = 0; first < shape.positions; first += kKeyBlock) {
        const int64_t count = std::min(kKeyBlock, shape.positions - first);
        queries.Visit(keys, biases + first, first, count, out != nullptr);
      }
      queries.WriteLogSums(log_sums + image * shape.positions);
      if (out != nullptr) {
        queries.WriteOut(out + offset);
      }
    });
  }
}

}  // namespace detectron_ext
