// Detectron's sigmoid focal loss (Focal Loss for Dense Object Detection, section 3) on the CPU.
//
// Logits are (N, A * K, H, W), K classes for each of A anchors; targets are (N, A, H, W): 0 is
// background, k > 0 makes class k - 1 the positive one, -1 is ignored. With p = sigmoid(x), a
// positive costs -positive_weight (1 - p)^gamma log(p), any other class
// -negative_weight p^gamma log(1 - p). log(p) is cut off at the logarithm of the smallest normal
// float, as Detectron's kernel does.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/parallel.h"
#include "kernels/vector_math.h"

namespace detectron_ext {

struct SigmoidFocalLossShape {
  int64_t planes;      // N * A * K
  int64_t plane_size;  // H * W
  int num_classes;     // K
};

struct SigmoidFocalLossWeights {
  float gamma;
  float positive;  // alpha / normalizer
  float negative;  // (1 - alpha) / normalizer
};

namespace sigmoid_focal {

constexpr int64_t kBlock = 8192;
constexpr int64_t kBuffer = 512;
constexpr float kSmallestLog = -87.3365448f;

struct Probabilities {
  float p;          // sigmoid(x)
  float not_p;      // 1 - p
  float log_p;      // cut off at kSmallestLog
  float log_not_p;  // log(1 - p)
};

inline Probabilities Evaluate(float x) {
  const float e = ExpNonPositive(-std::fabs(x));
  const float log_1pe = Log1pOfUnit(e);
  const float large = 1.0f / (1.0f + e);
  const float small = e * large;
  const bool is_positive = x >= 0;
  Probabilities result;
  result.p = is_positive ? large : small;
  result.not_p = is_positive ? small : large;
  const float log_p = (is_positive ? 0.0f : x) - log_1pe;
  result.log_p = log_p < kSmallestLog ? kSmallestLog : log_p;
  result.log_not_p = (is_positive ? -x : 0.0f) - log_1pe;
  return result;
}

// base^gamma, given log(base); the usual gamma of 2 needs no exponential.
template <bool kGammaIsTwo>
inline float Power(float base, float log_base, float gamma) {
  return kGammaIsTwo ? base * base : ExpNonPositive(gamma * log_base);
}

template <bool kGammaIsTwo>
inline float Loss(float x, int target, int label, const SigmoidFocalLossWeights& w) {
  const Probabilities v = Evaluate(x);
  const float positive =
      -w.positive * Power<kGammaIsTwo>(v.not_p, v.log_not_p, w.gamma) * v.log_p;
  const float negative = -w.negative * Power<kGammaIsTwo>(v.p, v.log_p, w.gamma) * v.log_not_p;
  const float counted = target == -1 ? 0.0f : negative;
  return target == label ? positive : counted;
}

template <bool kGammaIsTwo>
inline float Slope(float x, int target, int label, const SigmoidFocalLossWeights& w) {
  const Probabilities v = Evaluate(x);
  const float positive = -w.positive * Power<kGammaIsTwo>(v.not_p, v.log_not_p, w.gamma) *
      (v.not_p - w.gamma * v.p * v.log_p);
  const float negative = -w.negative * Power<kGammaIsTwo>(v.p, v.log_p, w.gamma) *
      (w.gamma * v.not_p * v.log_not_p - v.p);
  const float counted = target == -1 ? 0.0f : negative;
  return target == label ? positive : counted;
}

// Calls run(logit index, target index, label, length) for each stretch of [begin, end), logit
// indices, that lies in one plane.
template <typename Run>
inline void ForEachRun(
    const SigmoidFocalLossShape& shape, int64_t begin, int64_t end, int64_t limit,
    const Run& run) {
  for (int64_t i = begin; i < end;) {
    const int64_t plane = i / shape.plane_size;
    const int64_t offset = i % shape.plane_size;
    const int64_t length = std::min({end - i, shape.plane_size - offset, limit});
    const int64_t anchor = plane / shape.num_classes;
    const int label = static_cast<int>(plane % shape.num_classes) + 1;
    run(i, anchor * shape.plane_size + offset, label, length);
    i += length;
  }
}

template <bool kGammaIsTwo>
double Sum(
    const float* logits, const int* targets, const SigmoidFocalLossShape& shape,
    const SigmoidFocalLossWeights& weights, ParallelFor parallel_for) {
  const int64_t size = shape.planes * shape.plane_size;
  return SumOverBlocks(parallel_for, size, kBlock, [&](int64_t begin, int64_t end) {
    double sum = 0;
    float losses[kBuffer];
    const SigmoidFocalLossWeights w = weights;
    ForEachRun(shape, begin, end, kBuffer, [&](int64_t i, int64_t t, int label, int64_t length) {
      for (int64_t k = 0; k < length; ++k) {
        losses[k] = Loss<kGammaIsTwo>(logits[i + k], targets[t + k], label, w);
      }
      sum += LaneSum(losses, length);
    });
    return sum;
  });
}

template <bool kGammaIsTwo>
void Gradient(
    const float* logits, const int* targets, const SigmoidFocalLossShape& shape,
    const SigmoidFocalLossWeights& weights, float factor, float* gradient,
    ParallelFor parallel_for) {
  const int64_t size = shape.planes * shape.plane_size;
  ForEachBlock(parallel_for, size, kBlock, [&](int64_t begin, int64_t end) {
    const SigmoidFocalLossWeights w = weights;
    ForEachRun(shape, begin, end, kBlock, [&](int64_t i, int64_t t, int label, int64_t length) {
      for (int64_t k = 0; k < length; ++k) {
        gradient[i + k] =
            factor * Slope<kGammaIsTwo>(logits[i + k], targets[t + k], label, w);
      }
    });
  });
}

}  // namespace sigmoid_focal

// Returns the sum of the losses of all logits.
inline double SigmoidFocalLoss(
    const float* logits, const int* targets, const SigmoidFocalLossShape& shape,
    const SigmoidFocalLossWeights& weights, ParallelFor parallel_for) {
  return weights.gamma == 2.0f
      ? sigmoid_focal::Sum<true>(logits, targets, shape, weights, parallel_for)
      : sigmoid_focal::Sum<false>(logits, targets, shape, weights, parallel_for);
}

// Writes factor times the derivative of the sum with respect to each logit.
inline void SigmoidFocalLossGradient(
    const float* logits, const int* targets, const SigmoidFocalLossShape& shape,
    const SigmoidFocalLossWeights& weights, float factor, float* gradient,
    ParallelFor parallel_for) {
  const auto run = weights.gamma == 2.0f ? sigmoid_focal::Gradient<true>
                                         : sigmoid_focal::Gradient<false>;
  run(logits, targets, shape, weights, factor, gradient, parallel_for);
}

}  // namespace detectron_ext
