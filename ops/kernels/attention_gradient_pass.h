// The gradient of attention, in bands of keys j.
//
// A band's probabilities p and score gradients ds are computed for all queries i and stored as
// [panel of j][i][j]. In this order they can be either factor of the products
//
//   d_theta[i] += sum_j ds[i][j] phi[j]      (a thread owns blocks of i)
//   d_phi[j] = sum_i theta[i] ds[i][j]       (a thread owns channels)
//   d_g[j] = sum_i d_out[i] p[i][j]
//
// without another copy. One thread adds up each sum, in a fixed order. Every band reads theta and
// d_out twice, so they are packed once, as [panel of i][channel][i]. In this order they, too, can
// be either factor.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/packing.h"

namespace detectron_ext {

// (channels, width) floats, `stride` of them from channel to channel.
template <typename Float>
struct MapPart {
  Float* data;
  int64_t stride;
};

// The keys [first, first + width), and where to write their gradients.
struct KeyBand {
  int64_t first;
  int64_t width;
  MapPart<const float> phi;
  MapPart<const float> g;
  const float* biases;  // (width), added to their scores; null for zeros
  MapPart<float> d_phi;
  MapPart<float> d_g;
  float* d_biases;  // (width), or null
};

// The gradients of images of one shape, one image after the other. For each image call Start, then
// Run for each band of ForEachBand, then WriteQueryGradients.
class AttentionGradientPass {
 public:
  // shape.images is not used.
  AttentionGradientPass(const AttentionShape& shape, ParallelFor parallel_for);

  // Begins an image. The pointers are to that image's part. log_sums must stay valid until the
  // image is done; the others are read here. d_out may lie in QueryScratch.
  void Start(const float* theta, const float* out, const float* log_sums, const float* d_out);

  // Working memory for (channels, positions) floats. Start overwrites it at its end.
  float* QueryScratch() { return query_gradients_.data(); }

  // Calls visit(first, width) for each band in turn.
  template <typename Visit>
  void ForEachBand(const Visit& visit) const {
    // Bands of nearly equal size, so that the last one is not much smaller.
    const int64_t band = MaxBandWidth();
    for (int64_t first = 0; first < shape_.positions; first += band) {
      visit(first, std::min(band, shape_.positions - first));
    }
  }
  // The width of the widest band.
  int64_t MaxBandWidth() const;

  // Writes the gradients of a band's keys. Adds the band's part to the gradients of the queries.
  void Run(const KeyBand& band);

  // Adds more[c][j] to the gradients of the queries [first, first + width) of a band.
  void AddToQueryGradients(int64_t first, int64_t width, MapPart<const float> more);

  // Frees the memory that only the bands need.
  void FreeBands();

  // Writes d_theta, the sum over all bands; adds `plus` (channels, positions) unless it is null.
  void WriteQueryGradients(const float* plus, float* d_theta) const;

 private:
  void DotRows(const float* out, const float* d_out);
  void PackQueries(const float* theta, const float* d_out);
  void PackBand(const KeyBand& band);
  void VisitQueries(const KeyBand& band, int64_t begin, int64_t end);
  void AddProductsWithKeys(int64_t width, int64_t begin, int64_t size);
  void SumOverQueries(const KeyBand& band);
  void SumTiles(const KeyBand& band, const FloatBuffer& query, const FloatBuffer& weights,
                int64_t first_tile, int64_t last_tile, float factor, MapPart<float> d_key) const;
  void SumBiases(const KeyBand& band) const;
  const float* Row(const FloatBuffer& band, int64_t panel, int64_t i) const;
  float* Row(FloatBuffer& band, int64_t panel, int64_t i);
  float* QueryGradient(int64_t channel_panel, int64_t i);
  const float* QueryGradient(int64_t channel_panel, int64_t i) const;

  const AttentionShape shape_;
  const ParallelFor parallel_for_;
  const int64_t padded_positions_;
  const int64_t channel_panels_;
  const int64_t query_panel_;  // from one panel of queries to the next
  const float* log_sums_ = nullptr;
  FloatBuffer theta_;  // [panel of i][channel][i]
  FloatBuffer d_out_;  // [panel of i][channel][i]
  FloatBuffer row_dots_;
  FloatBuffer probabilities_;    // [panel of j][i][j]
  FloatBuffer score_gradients_;  // [panel of j][i][j]
  FloatBuffer bias_sums_;        // [block of i][j], of score gradients
  FloatBuffer phi_columns_;      // [panel of j][channel][j]
  FloatBuffer g_columns_;        // [panel of j][channel][j]
  FloatBuffer phi_rows_;         // [panel of channels][j][channel]
  FloatBuffer query_gradients_;  // [tile of i][panel of channels][i][channel]
};

}  // namespace detectron_ext
