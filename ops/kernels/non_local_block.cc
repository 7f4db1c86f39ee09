#include "kernels/non_local_block.h"

#include <algorithm>
#include <vector>

#include "kernels/attention.h"
#include "kernels/attention_gradient_pass.h"
#include "kernels/matrix_product.h"
#include "kernels/packing.h"
#include "kernels/pointwise_convolution.h"

namespace detectron_ext {
namespace {

constexpr int64_t kPositionBlock = 512;  // positions, or elements, of one block of work

// y[row] = factor * sum_column matrix[row][column] x[column]
std::vector<float> MultiplyVector(const Factor& matrix, int64_t rows, int64_t columns,
                                  const float* x, float factor) {
  std::vector<float> y(rows);
  for (int64_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t at =
          matrix.transposed ? column * matrix.stride + row : row * matrix.stride + column;
      sum += static_cast<double>(matrix.data[at]) * x[column];
    }
    y[row] = static_cast<float>(factor * sum);
  }
  return y;
}

// The composed convolutions of the block: see kernels/non_local_block.h.
struct Composed {
  Composed(const NonLocalShape& shape, const NonLocalWeights& w, ParallelFor parallel_for)
      : scores(shape.channels * shape.channels), values(shape.channels * shape.channels) {
    const int64_t channels = shape.channels;
    MultiplyMatrices({w.theta_w, channels, true}, {w.phi_w, channels, false}, channels, channels,
                     shape.embedded, nullptr, scores.data(), parallel_for);
    for (int64_t i = 0; i < channels * channels; ++i) {
      scores.data()[i] *= shape.scale;
    }
    MultiplyMatrices({w.out_w, shape.embedded, false}, {w.g_w, channels, false}, channels, channels,
                     shape.embedded, nullptr, values.data(), parallel_for);
    bias =
        MultiplyVector({w.phi_w, channels, true}, channels, shape.embedded, w.theta_b, shape.scale);
    constant =
        MultiplyVector({w.out_w, shape.embedded, false}, channels, shape.embedded, w.g_b, 1.0f);
    for (int64_t c = 0; c < channels; ++c) {
      constant[c] += w.out_b[c];
    }
  }

  FloatBuffer scores;  // (channels, channels)
  FloatBuffer values;  // (channels, channels)
  std::vector<float> bias;
  std::vector<float> constant;
};

// biases[j] = sum_c bias[c] x[c][first + j]
void KeyBiases(const std::vector<float>& bias, const float* x, int64_t stride, int64_t count,
               float* biases, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, count, kPositionBlock, [&](int64_t begin, int64_t end) {
    std::fill(biases + begin, biases + end, 0.0f);
    for (size_t channel = 0; channel < bias.size(); ++channel) {
      const float* from = x + channel * stride;
      for (int64_t j = begin; j < end; ++j) {
        biases[j] += bias[channel] * from[j];
      }
    }
  });
}

PointwiseShape Pointwise(const NonLocalShape& shape, int64_t images) {
  return {images, shape.channels, shape.channels, /*height=*/1, shape.positions, 1, 1};
}

AttentionShape OneImage(const NonLocalShape& shape) {
  return {1, shape.channels, shape.positions, /*scale=*/1.0f};
}

// The gradients of the members of Composed except `values` and `constant`, added up band by band.
class ComposedGradients {
 public:
  explicit ComposedGradients(int64_t channels)
      : scores(channels * channels), bias(channels), channels_(channels), product_(scores) {}

  // Adds what the keys of a band contribute. d_keys is (channels, width). x starts at the band.
  void Add(const float* x, int64_t stride, int64_t width, const float* d_keys,
           const float* d_biases, ParallelFor parallel_for) {
    MultiplyMatrices({d_keys, width, false}, {x, stride, true}, channels_, channels_, width,
                     nullptr, product_.data(), parallel_for);
    for (int64_t i = 0; i < channels_ * channels_; ++i) {
      scores[i] += product_[i];
    }
    for (int64_t channel = 0; channel < channels_; ++channel) {
      float sum = 0.0f;
      for (int64_t j = 0; j < width; ++j) {
        sum += d_biases[j] * x[channel * stride + j];
      }
      bias[channel] += sum;
    }
  }

  std::vector<float> scores;  // (channels, channels)
  std::vector<float> bias;

 private:
  const int64_t channels_;
  std::vector<float> product_;
};

// Computes the keys of an image and the gradients that flow through them, one band at a time.
class KeyBands {
 public:
  KeyBands(const NonLocalShape& shape, const Composed& composed, int64_t band_width,
           ParallelFor parallel_for)
      : shape_(shape),
        composed_(composed),
        parallel_for_(parallel_for),
        keys_(shape.channels * band_width),
        d_keys_(shape.channels * band_width),
        d_averaged_(shape.channels * band_width),
        biases_(band_width),
        d_biases_(band_width) {}

  // Computes a band: adds its part to `gradients` and to the query gradients of `pass`. x: the
  // image's part of the input.
  void Run(const float* x, int64_t first, int64_t width, AttentionGradientPass* pass,
           ComposedGradients* gradients) {
    const int64_t channels = shape_.channels;
    const int64_t stride = shape_.positions;
    x += first;
    MultiplyMatrices({composed_.scores.data(), channels, false}, {x, stride, false}, channels,
                     width, channels, nullptr, keys_.data(), parallel_for_);
    KeyBiases(composed_.bias, x, stride, width, biases_.data(), parallel_for_);
    pass->Run({first,
               width,
               {keys_.data(), width},
               {x, stride},
               biases_.data(),
               {d_keys_.data(), width},
               {d_averaged_.data(), width},
               d_biases_.data()});
    gradients->Add(x, stride, width, d_keys_.data(), d_biases_.data(), parallel_for_);
    // The keys are no longer needed. Their memory takes the gradient that they pass on to x.
    MultiplyMatrices({composed_.scores.data(), channels, true}, {d_keys_.data(), width, false},
                     channels, width, channels, nullptr, keys_.data(), parallel_for_);
    for (int64_t channel = 0; channel < channels; ++channel) {
      float* const sum = keys_.data() + channel * width;
      const float* const averaged = d_averaged_.data() + channel * width;
      for (int64_t j = 0; j < width; ++j) {
        sum[j] += averaged[j] + composed_.bias[channel] * d_biases_[j];
      }
    }
    pass->AddToQueryGradients(first, width, {keys_.data(), width});
  }

 private:
  const NonLocalShape& shape_;
  const Composed& composed_;
  const ParallelFor parallel_for_;
  FloatBuffer keys_;
  FloatBuffer d_keys_;
  FloatBuffer d_averaged_;
  std::vector<float> biases_;
  std::vector<float> d_biases_;
};

// Computes the gradients of the weights from those of the composed matrices. d_values and
// d_constant are the gradients of Composed's members of these names.
void WriteWeightGradients(const NonLocalShape& shape, const NonLocalWeights& w,
                          const ComposedGradients& composed, const float* d_values,
                          const float* d_constant, const NonLocalWeightGradients& d,
                          ParallelFor parallel_for) {
  const int64_t channels = shape.channels;
  const int64_t embedded = shape.embedded;
  MultiplyMatrices({w.phi_w, channels, false}, {composed.scores.data(), channels, true}, embedded,
                   channels, channels, nullptr, d.theta_w, parallel_for);
  MultiplyMatrices({w.theta_w, channels, false}, {composed.scores.data(), channels, false},
                   embedded, channels, channels, nullptr, d.phi_w, parallel_for);
  const std::vector<float> d_theta_b = MultiplyVector({w.phi_w, channels, false}, embedded,
                                                      channels, composed.bias.data(), shape.scale);
  std::copy(d_theta_b.begin(), d_theta_b.end(), d.theta_b);
  std::fill(d.phi_b, d.phi_b + embedded, 0.0f);
  for (int64_t k = 0; k < embedded; ++k) {
    for (int64_t c = 0; c < channels; ++c) {
      d.theta_w[k * channels + c] *= shape.scale;
      d.phi_w[k * channels + c] += w.theta_b[k] * composed.bias[c];
      d.phi_w[k * channels + c] *= shape.scale;
    }
  }
  MultiplyMatrices({d_values, channels, false}, {w.g_w, channels, true}, channels, embedded,
                   channels, nullptr, d.out_w, parallel_for);
  MultiplyMatrices({w.out_w, embedded, true}, {d_values, channels, false}, embedded, channels,
                   channels, nullptr, d.g_w, parallel_for);
  const std::vector<float> d_g_b =
      MultiplyVector({w.out_w, embedded, true}, embedded, channels, d_constant, 1.0f);
  std::copy(d_g_b.begin(), d_g_b.end(), d.g_b);
  for (int64_t c = 0; c < channels; ++c) {
    d.out_b[c] = d_constant[c];
    for (int64_t k = 0; k < embedded; ++k) {
      d.out_w[c * embedded + k] += d_constant[c] * w.g_b[k];
    }
  }
}

}  // namespace

void NonLocalBlock(const NonLocalShape& shape, const float* x, const NonLocalWeights& weights,
                   float* y, float* averages, float* log_sums, ParallelFor parallel_for) {
  if (shape.positions == 0) {
    return;
  }
  const Composed composed(shape, weights, parallel_for);
  {
    FloatBuffer keys(shape.image_size());
    std::vector<float> biases(shape.positions);
    for (int64_t image = 0; image < shape.images; ++image) {
      const float* const from = x + image * shape.image_size();
      PointwiseConvolution(Pointwise(shape, 1), from, composed.scores.data(), nullptr, keys.data(),
                           parallel_for);
      KeyBiases(composed.bias, from, shape.positions, shape.positions, biases.data(), parallel_for);
      Attention(OneImage(shape), from, keys.data(), from, biases.data(),
                averages + image * shape.image_size(), log_sums + image * shape.positions,
                parallel_for);
    }
  }
  PointwiseConvolution(Pointwise(shape, shape.images), averages, composed.values.data(),
                       composed.constant.data(), y, parallel_for);
  ForEachBlock(parallel_for, shape.images * shape.image_size(), kPositionBlock,
               [=](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   y[i] += x[i];
                 }
               });
}

void NonLocalBlockGradient(const NonLocalShape& shape, const float* x,
                           const NonLocalWeights& weights, const float* averages,
                           const float* log_sums, const float* d_y, float* d_x,
                           const NonLocalWeightGradients& d_weights, ParallelFor parallel_for) {
  const int64_t channels = shape.channels;
  ComposedGradients gradients(channels);
  std::vector<float> d_values(channels * channels);
  std::vector<float> d_constant(channels);
  if (shape.images * shape.positions > 0) {
    const Composed composed(shape, weights, parallel_for);
    PointwiseFilterGradient(Pointwise(shape, shape.images), averages, d_y, d_values.data(),
                            d_constant.data(), parallel_for);
    AttentionGradientPass pass(OneImage(shape), parallel_for);
    KeyBands bands(shape, composed, pass.MaxBandWidth(), parallel_for);
    for (int64_t image = 0; image < shape.images; ++image) {
      const int64_t at = image * shape.image_size();
      float* const d_averages = pass.QueryScratch();
      PointwiseInputGradient(Pointwise(shape, 1), composed.values.data(), d_y + at, d_averages,
                             parallel_for);
      pass.Start(x + at, averages + at, log_sums + image * shape.positions, d_averages);
      pass.ForEachBand([&](int64_t first, int64_t width) {
        bands.Run(x + at, first, width, &pass, &gradients);
      });
      if (image + 1 == shape.images) {
        pass.FreeBands();  // before d_x takes memory
      }
      pass.WriteQueryGradients(d_y + at, d_x + at);
    }
  }
  WriteWeightGradients(shape, weights, gradients, d_values.data(), d_constant.data(), d_weights,
                       parallel_for);
}

}  // namespace detectron_ext
