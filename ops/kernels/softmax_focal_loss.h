// Detectron's softmax focal loss: one label for each group of K classes at each position.
//
// The loss of an anchor is -z (1 - p)^gamma log(p), where p is the probability of the label. z is
// the weight of negatives for label 0, the weight of positives for a larger label, and 0 for label
// -1. log(p) is cut off at the logarithm of the smallest normal float, as in Detectron's kernel.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/focal_parameters.h"
#include "kernels/group_softmax.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct SoftmaxFocal {
  FocalParameters parameters;

  float Weight(int32_t label) const {
    return label == 0 ? parameters.negative_weight : parameters.positive_weight;
  }

  // Returns log(p), cut off as above. not_p: 1 - p, computed without cancellation.
  static double LogOf(float p, float not_p) {
    return p > 0.5f ? std::log1p(-static_cast<double>(not_p)) : std::log(p > FLT_MIN ? p : FLT_MIN);
  }

  // The loss of an anchor whose label has the probability p.
  double Loss(float p, float not_p, int32_t label) const {
    const double gamma = parameters.gamma;
    return -Weight(label) * std::pow(static_cast<double>(not_p), gamma) * LogOf(p, not_p);
  }

  // The derivative of Loss with respect to log(p).
  float Slope(float p, float not_p, int32_t label) const {
    const double gamma = parameters.gamma;
    const double rest = not_p;
    // At p = 1 the limit of this term is 0, while its factors may be 0 and infinite.
    const double bend =
        not_p > 0 && gamma > 0 ? gamma * std::pow(rest, gamma - 1.0) * p * LogOf(p, not_p) : 0.0;
    return static_cast<float>(Weight(label) * (bend - std::pow(rest, gamma)));
  }
};

// Writes, for `length` neighbouring anchors, the sum of the probabilities of all classes but the
// anchor's label. p and label point to the first anchor's.
inline void SumOtherClasses(const float* p, const int32_t* label, const GroupedShape& shape,
                            int64_t length, float* sum) {
  std::fill(sum, sum + length, 0.0f);
  for (int64_t c = 0; c < shape.classes; ++c) {
    const float* const row = p + c * shape.positions;
#pragma omp simd
    for (int64_t i = 0; i < length; ++i) {
      sum[i] += label[i] == c ? 0.0f : row[i];
    }
  }
}

// Returns the sum of the losses, given the probabilities. Labels (groups, positions) are below K.
inline double SoftmaxFocalLoss(const float* p, const int32_t* labels, const GroupedShape& shape,
                               const SoftmaxFocal& focal, ParallelFor parallel_for) {
  std::vector<double> losses(shape.groups * RunsInGroup(shape));
  ForEachGroupRun(shape, parallel_for, [&](int64_t group, int64_t first, int64_t length) {
    const float* const start = p + group * shape.classes * shape.positions + first;
    const int32_t* const label = labels + group * shape.positions + first;
    float others[kSoftmaxRun];
    SumOtherClasses(start, label, shape, length, others);
    double sum = 0;
    for (int64_t i = 0; i < length; ++i) {
      if (label[i] >= 0) {
        sum += focal.Loss(start[label[i] * shape.positions + i], others[i], label[i]);
      }
    }
    losses[group * RunsInGroup(shape) + first / kSoftmaxRun] = sum;
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

// Writes factor times the derivative of the sum with respect to the logits.
inline void SoftmaxFocalLossGradient(const float* p, const int32_t* labels,
                                     const GroupedShape& shape, const SoftmaxFocal& focal,
                                     float factor, float* dx, ParallelFor parallel_for) {
  ForEachGroupRun(shape, parallel_for, [=](int64_t group, int64_t first, int64_t length) {
    const int64_t start = group * shape.classes * shape.positions + first;
    const int32_t* const label = labels + group * shape.positions + first;
    float others[kSoftmaxRun];
    SumOtherClasses(p + start, label, shape, length, others);
    float slope[kSoftmaxRun] = {};
    for (int64_t i = 0; i < length; ++i) {
      if (label[i] >= 0) {
        const float p_label = p[start + label[i] * shape.positions + i];
        slope[i] = factor * focal.Slope(p_label, others[i], label[i]);
      }
    }
    for (int64_t c = 0; c < shape.classes; ++c) {
      const int64_t at = start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        const float gradient = slope[i] * (label[i] == c ? others[i] : -p[at + i]);
        dx[at + i] = label[i] < 0 ? 0.0f : gradient;  // even if p is NaN
      }
    }
  });
}

}  // namespace detectron_ext
