#include "kernels/quality_focal_loss.h"

#include "kernels/focal_runs.h"
#include "kernels/lane_sum.h"
#include "kernels/quality_focal.h"
#include "kernels/sigmoid_focal.h"

namespace detectron_ext {
namespace {

// Nearly all logits are negatives, so a first loop takes all logits for negatives, several at a
// time, and a second one corrects the positives. kBetaTwo: beta is 2.
template <bool kBetaTwo>
struct Loops {
  static double Sum(const SigmoidFocalShape& shape, const QualityFocalInputs& in,
                    ParallelFor parallel_for) {
    return SumOverBlocks(parallel_for, shape.size(), kFocalBlock, [&](int64_t begin, int64_t end) {
      const SigmoidFocal<kBetaTwo> negatives{in.beta, 0.0f, in.negative_weight};
      const QualityFocal positives{in.beta, in.positive_weight};
      float losses[kFocalRun];
      double sum = 0;
      ForEachFocalRun(shape, begin, end, [&](const FocalRun& run) {
        const float* const x = in.logits + run.first;
        const int32_t* const labels = in.labels + run.anchor;
#pragma omp simd
        for (int64_t i = 0; i < run.length; ++i) {
          const float loss = negatives.Loss(x[i], false);
          losses[i] = labels[i] == -1 ? 0.0f : loss;
        }
        for (int64_t i = 0; i < run.length; ++i) {
          if (labels[i] == run.class_label) {
            losses[i] = positives.Loss(x[i], in.quality[run.anchor + i]);
          }
        }
        sum += LaneSum(losses, run.length);
      });
      return sum;
    });
  }

  static void Gradient(const SigmoidFocalShape& shape, const QualityFocalInputs& in, float factor,
                       float* d_logits, ParallelFor parallel_for) {
    ForEachBlock(parallel_for, shape.size(), kFocalBlock, [&](int64_t begin, int64_t end) {
      const SigmoidFocal<kBetaTwo> negatives{in.beta, 0.0f, in.negative_weight};
      const QualityFocal positives{in.beta, in.positive_weight};
      const float scale = factor;
      ForEachFocalRun(shape, begin, end, [&](const FocalRun& run) {
        const float* const x = in.logits + run.first;
        const int32_t* const labels = in.labels + run.anchor;
        float* const dx = d_logits + run.first;
#pragma omp simd
        for (int64_t i = 0; i < run.length; ++i) {
          const float slope = scale * negatives.Gradient(x[i], false);
          dx[i] = labels[i] == -1 ? 0.0f : slope;
        }
        for (int64_t i = 0; i < run.length; ++i) {
          if (labels[i] == run.class_label) {
            dx[i] = scale * positives.Gradient(x[i], in.quality[run.anchor + i]);
          }
        }
      });
    });
  }
};

}  // namespace

double QualityFocalSum(const SigmoidFocalShape& shape, const QualityFocalInputs& in,
                       ParallelFor parallel_for) {
  const auto sum = in.beta == 2.0f ? Loops<true>::Sum : Loops<false>::Sum;
  return sum(shape, in, parallel_for);
}

void QualityFocalGradient(const SigmoidFocalShape& shape, const QualityFocalInputs& in,
                          float factor, float* d_logits, ParallelFor parallel_for) {
  const auto gradient = in.beta == 2.0f ? Loops<true>::Gradient : Loops<false>::Gradient;
  gradient(shape, in, factor, d_logits, parallel_for);
}

}  // namespace detectron_ext
