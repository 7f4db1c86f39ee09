#include "kernels/sigmoid_focal_loss.h"

#include "kernels/focal_runs.h"
#include "kernels/lane_sum.h"
#include "kernels/sigmoid_focal.h"

namespace detectron_ext {
namespace {

// kGammaTwo: gamma is 2. kWeighted: weights is not null.
template <bool kGammaTwo, bool kWeighted>
struct Loops {
  // Returns a term times the weight of its anchor. At an ignored anchor it returns 0, even if the
  // term or the weight is NaN.
  static float Counted(float term, int32_t label, const float* weights, int64_t anchor) {
    const float weighted = kWeighted ? weights[anchor] * term : term;
    return label == -1 ? 0.0f : weighted;
  }

  static double Sum(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                    const float* logits, const int32_t* labels, const float* weights,
                    ParallelFor parallel_for) {
    return SumOverBlocks(parallel_for, shape.size(), kFocalBlock, [&](int64_t begin, int64_t end) {
      const SigmoidFocal<kGammaTwo> formula{parameters.gamma, parameters.positive_weight,
                                            parameters.negative_weight};
      float losses[kFocalRun];
      double sum = 0;
      ForEachFocalRun(shape, begin, end, [&](const FocalRun& run) {
        const float* const x = logits + run.first;
        for (int64_t i = 0; i < run.length; ++i) {
          const int32_t label = labels[run.anchor + i];
          const float loss = formula.Loss(x[i], label == run.class_label);
          losses[i] = Counted(loss, label, weights, run.anchor + i);
        }
        sum += LaneSum(losses, run.length);
      });
      return sum;
    });
  }

  static void Gradient(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                       const float* logits, const int32_t* labels, const float* weights,
                       float factor, float* d_logits, ParallelFor parallel_for) {
    ForEachBlock(parallel_for, shape.size(), kFocalBlock, [&](int64_t begin, int64_t end) {
      const SigmoidFocal<kGammaTwo> formula{parameters.gamma, parameters.positive_weight,
                                            parameters.negative_weight};
      const float scale = factor;
      ForEachFocalRun(shape, begin, end, [&](const FocalRun& run) {
        const float* const x = logits + run.first;
        float* const dx = d_logits + run.first;
#pragma omp simd
        for (int64_t i = 0; i < run.length; ++i) {
          const int32_t label = labels[run.anchor + i];
          const float slope = formula.Gradient(x[i], label == run.class_label);
          dx[i] = scale * Counted(slope, label, weights, run.anchor + i);
        }
      });
    });
  }
};

}  // namespace

double SigmoidFocalSum(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                       const float* logits, const int32_t* labels, const float* weights,
                       ParallelFor parallel_for) {
  const bool two = parameters.gamma == 2.0f;
  const auto sum = weights == nullptr ? (two ? Loops<true, false>::Sum : Loops<false, false>::Sum)
                                      : (two ? Loops<true, true>::Sum : Loops<false, true>::Sum);
  return sum(shape, parameters, logits, labels, weights, parallel_for);
}

void SigmoidFocalGradient(const SigmoidFocalShape& shape, const FocalParameters& parameters,
                          const float* logits, const int32_t* labels, const float* weights,
                          float factor, float* d_logits, ParallelFor parallel_for) {
  const bool two = parameters.gamma == 2.0f;
  const auto gradient = weights == nullptr
      ? (two ? Loops<true, false>::Gradient : Loops<false, false>::Gradient)
      : (two ? Loops<true, true>::Gradient : Loops<false, true>::Gradient);
  gradient(shape, parameters, logits, labels, weights, factor, d_logits, parallel_for);
}

}  // namespace detectron_ext
