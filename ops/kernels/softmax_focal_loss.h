// Detectron's softmax focal loss: one label for each group of K classes at each position.
//
// With p the probability of the label, an anchor costs -z (1 - p)^gamma log(p), where z is
// `background` for label 0, `foreground` for a larger one and 0 for a negative one. log(p) is cut
// off at the logarithm of the smallest normal float, as Detectron's kernel does.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "kernels/group_softmax.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct SoftmaxFocal {
  float gamma;
  float foreground;  // alpha / normalizer
  float background;  // (1 - alpha) / normalizer

  float Weight(int32_t label) const { return label == 0 ? background : foreground; }

  double Loss(float p, int32_t label) const {
    const double log_p = std::log(p > FLT_MIN ? p : FLT_MIN);
    return -Weight(label) * std::pow(1.0 - p, static_cast<double>(gamma)) * log_p;
  }

  // The derivative with respect to log(p).
  float Slope(float p, int32_t label) const {
    const double not_p = 1.0 - p;
    const double log_p = std::log(p > FLT_MIN ? p : FLT_MIN);
    // Where p is 1 the second term's limit is 0, while its factors may be 0 and infinite.
    const double bend = not_p > 0 && gamma > 0
        ? gamma * std::pow(not_p, gamma - 1.0) * p * log_p : 0.0;
    return static_cast<float>(
        Weight(label) * (bend - std::pow(not_p, static_cast<double>(gamma))));
  }
};

// Returns the sum of the losses, given the probabilities. Labels (groups, positions) are below K.
inline double SoftmaxFocalLoss(
    const float* p, const int32_t* labels, const GroupedShape& shape, const SoftmaxFocal& focal,
    ParallelFor parallel_for) {
  const int64_t anchors = shape.groups * shape.positions;
  return SumOverBlocks(parallel_for, anchors, 2048, [=](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      const int32_t label = labels[i];
      if (label >= 0) {
        const int64_t row = i / shape.positions * shape.classes + label;
        sum += focal.Loss(p[row * shape.positions + i % shape.positions], label);
      }
    }
    return sum;
  });
}

// Writes factor times the derivative of the sum with respect to the logits.
inline void SoftmaxFocalLossGradient(
    const float* p, const int32_t* labels, const GroupedShape& shape, const SoftmaxFocal& focal,
    float factor, float* dx, ParallelFor parallel_for) {
  ForEachGroupRun(shape, parallel_for, [=](int64_t group, int64_t first, int64_t length) {
    const int64_t start = group * shape.classes * shape.positions + first;
    const int32_t* const label = labels + group * shape.positions + first;
    float slope[kSoftmaxRun] = {};
    for (int64_t i = 0; i < length; ++i) {
      if (label[i] >= 0) {
        slope[i] = factor * focal.Slope(p[start + label[i] * shape.positions + i], label[i]);
      }
    }
    for (int64_t c = 0; c < shape.classes; ++c) {
      const int64_t at = start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        dx[at + i] = slope[i] * ((label[i] == c ? 1.0f : 0.0f) - p[at + i]);
      }
    }
  });
}

}  // namespace detectron_ext
