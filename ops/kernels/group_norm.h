// Group Normalization (Wu and He, 2018): y = gamma * (x - mean) / sqrt(variance + epsilon) + beta,
// with mean and (biased) variance over each of G groups of channels of each image.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/lane_sum.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct GroupNormShape {
  int64_t images;
  int64_t groups;
  int64_t channels_per_group;
  int64_t plane;  // H * W

  int64_t channels() const { return groups * channels_per_group; }
};

// Writes y, and for each group the mean and the inverse standard deviation, both (images, groups).
// For a group without elements these are 0 and 1 / sqrt(epsilon), as in Caffe2.
inline void GroupNorm(const float* x, const float* gamma, const float* beta,
                      const GroupNormShape& shape, float epsilon, float* y, float* mean,
                      float* inverse_std, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, shape.images * shape.groups, 1, [=](int64_t index, int64_t) {
    const int64_t size = shape.channels_per_group * shape.plane;
    const float* from = x + index * size;
    const MomentSums sums = LaneMoments(from, from, size);
    const double count = static_cast<double>(std::max<int64_t>(size, 1));
    const double mu = sums.sum / count;
    const double variance = std::max(sums.products / count - mu * mu, 0.0);
    const double inverse_deviation = 1.0 / std::sqrt(variance + epsilon);
    mean[index] = static_cast<float>(mu);
    inverse_std[index] = static_cast<float>(inverse_deviation);
    const int64_t first = index % shape.groups * shape.channels_per_group;
    for (int64_t c = 0; c < shape.channels_per_group; ++c) {
      const float scale = static_cast<float>(gamma[first + c] * inverse_deviation);
      const float bias =
          static_cast<float>(beta[first + c] - mu * inverse_deviation * gamma[first + c]);
      const float* x_plane = from + c * shape.plane;
      float* y_plane = y + index * size + c * shape.plane;
#pragma omp simd
      for (int64_t i = 0; i < shape.plane; ++i) {
        y_plane[i] = scale * x_plane[i] + bias;
      }
    }
  });
}

// Writes dx, dgamma and dbeta.
//
// With p = the sum over the group of dy * gamma and q = the sum of dy * gamma * x, dx is linear in
// dy and x: dx = gamma * r * dy + a * x + b. Here r is the inverse standard deviation, n the number
// of elements of the group, a = (p * mean - q) * r^3 / n and b = -a * mean - p * r / n.
inline void GroupNormGradient(const float* dy, const float* x, const float* gamma,
                              const float* mean, const float* inverse_std,
                              const GroupNormShape& shape, float* dx, float* dgamma, float* dbeta,
                              ParallelFor parallel_for) {
  std::vector<MomentSums> sums(shape.images * shape.channels());  // of dy, and of dy * x
  MomentSums* const all_sums = sums.data();
  ForEachBlock(parallel_for, shape.images * shape.groups, 1, [=](int64_t index, int64_t) {
    const int64_t size = shape.channels_per_group * shape.plane;
    const int64_t first = index % shape.groups * shape.channels_per_group;
    MomentSums* const group = all_sums + index * shape.channels_per_group;
    double p = 0;
    double q = 0;
    for (int64_t c = 0; c < shape.channels_per_group; ++c) {
      const int64_t at = index * size + c * shape.plane;
      group[c] = LaneMoments(dy + at, x + at, shape.plane);
      p += gamma[first + c] * group[c].sum;
      q += gamma[first + c] * group[c].products;
    }
    const double r = inverse_std[index];
    const double slope = (p * mean[index] - q) * r * r * r / size;
    const float a = static_cast<float>(slope);
    const float b = static_cast<float>(-slope * mean[index] - p * r / size);
    for (int64_t c = 0; c < shape.channels_per_group; ++c) {
      const int64_t at = index * size + c * shape.plane;
      const float scale = static_cast<float>(gamma[first + c] * r);
#pragma omp simd
      for (int64_t i = at; i < at + shape.plane; ++i) {
        dx[i] = scale * dy[i] + (a * x[i] + b);
      }
    }
  });
  for (int64_t c = 0; c < shape.channels(); ++c) {
    double gamma_sum = 0;
    double beta_sum = 0;
    for (int64_t n = 0; n < shape.images; ++n) {
      const MomentSums& s = sums[n * shape.channels() + c];
      const int64_t group = n * shape.groups + c / shape.channels_per_group;
      gamma_sum += (s.products - s.sum * mean[group]) * inverse_std[group];
      beta_sum += s.sum;
    }
    dgamma[c] = static_cast<float>(gamma_sum);
    dbeta[c] = static_cast<float>(beta_sum);
  }
}

}  // namespace detectron_ext
