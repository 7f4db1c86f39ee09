#include "kernels/weighted_sigmoid_focal_loss.h"

#include <algorithm>

#include "kernels/formulas.h"
#include "kernels/vector_math.h"

namespace detectron_ext {
namespace {

// Logits of one unit of work, and of one run of the inner loop.
constexpr int64_t kFocalBlock = 8192;
constexpr int64_t kRun = 512;

// Calls run(logit, anchor position, class label, length) for stretches of [begin, end) that lie in
// one plane of logits.
template <typename Run>
void ForEachStretch(const FocalShape& shape, int64_t begin, int64_t end, const Run& run) {
  for (int64_t i = begin; i < end;) {
    const int64_t plane = i / shape.positions;
    const int64_t offset = i % shape.positions;
    const int64_t length = std::min({end - i, shape.positions - offset, kRun});
    run(i, plane / shape.classes * shape.positions + offset,
        static_cast<int32_t>(plane % shape.classes) + 1, length);
    i += length;
  }
}

template <bool kGammaTwo>
double Sum(const FocalShape& shape, const SigmoidFocal<kGammaTwo>& focal, const float* logits,
           const int32_t* labels, const float* weights, ParallelFor parallel_for) {
  return SumOverBlocks(parallel_for, shape.size(), kFocalBlock, [=](int64_t begin, int64_t end) {
    const SigmoidFocal<kGammaTwo> formula = focal;
    float losses[kRun];
    double sum = 0;
    ForEachStretch(shape, begin, end,
                   [&](int64_t at, int64_t anchor, int32_t class_label, int64_t length) {
      for (int64_t i = 0; i < length; ++i) {
        losses[i] = weights[anchor + i] *
            formula.Loss(logits[at + i], labels[anchor + i], class_label);
      }
      sum += LaneSum(losses, length);
    });
    return sum;
  });
}

template <bool kGammaTwo>
void Gradient(const FocalShape& shape, const SigmoidFocal<kGammaTwo>& focal, const float* logits,
              const int32_t* labels, const float* weights, float factor, float* d_logits,
              ParallelFor parallel_for) {
  ForEachBlock(parallel_for, shape.size(), kFocalBlock, [=](int64_t begin, int64_t end) {
    const SigmoidFocal<kGammaTwo> formula = focal;
    ForEachStretch(shape, begin, end,
                   [&](int64_t at, int64_t anchor, int32_t class_label, int64_t length) {
      for (int64_t i = 0; i < length; ++i) {
        d_logits[at + i] = factor * weights[anchor + i] *
            formula.Gradient(logits[at + i], labels[anchor + i], class_label);
      }
    });
  });
}

template <bool kGammaTwo>
SigmoidFocal<kGammaTwo> FormulaOf(const FocalParameters& parameters) {
  return {parameters.gamma, parameters.positive_weight, parameters.negative_weight};
}

}  // namespace

double WeightedSigmoidFocalSum(const FocalShape& shape, const FocalParameters& parameters,
                               const float* logits, const int32_t* labels, const float* weights,
                               ParallelFor parallel_for) {
  return parameters.gamma == 2.0f
      ? Sum(shape, FormulaOf<true>(parameters), logits, labels, weights, parallel_for)
      : Sum(shape, FormulaOf<false>(parameters), logits, labels, weights, parallel_for);
}

void WeightedSigmoidFocalGradient(const FocalShape& shape, const FocalParameters& parameters,
                                  const float* logits, const int32_t* labels,
                                  const float* weights, float factor, float* d_logits,
                                  ParallelFor parallel_for) {
  if (parameters.gamma == 2.0f) {
    Gradient(shape, FormulaOf<true>(parameters), logits, labels, weights, factor, d_logits,
             parallel_for);
  } else {
    Gradient(shape, FormulaOf<false>(parameters), logits, labels, weights, factor, d_logits,
             parallel_for);
  }
}

}  // namespace detectron_ext
