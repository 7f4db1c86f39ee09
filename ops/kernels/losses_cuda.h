// The losses of Libra R-CNN on CUDA. Pointers are to device memory unless named otherwise; the
// formulas are in kernels/formulas.h. Sums are taken in an order that depends on sizes alone.
#pragma once

#include <cstdint>

#include "kernels/cuda_launch.h"
#include "kernels/dense_loss.h"
#include "kernels/formulas.h"

namespace detectron_ext {

// Doubles that `partial_sums` of the loss functions must hold: blocks of threads of a sum.
constexpr int kLossPartialSums = 4096;

// *loss = factor * sum of outside * L(inside * (prediction - target)).
void BalancedL1LossCuda(const BalancedL1& formula, const DenseLossInputs& in, float factor,
                        double* partial_sums, float* loss, cudaStream_t stream);

// d_prediction = factor * *d_loss * the sum's derivative.
void BalancedL1GradientCuda(const BalancedL1& formula, const DenseLossInputs& in, float factor,
                            const float* d_loss, float* d_prediction, cudaStream_t stream);

// Rows must stay below this.
constexpr int64_t kMaxCudaRows = 1 << 29;

// Predictions (n, c, h, w) of which `rows` places (n, c, y, x) select four channels each.
struct SelectionPointers {
  int64_t n, c, h, w;
  const float* prediction;
  int64_t rows;
  const float* target;  // (rows, 4)
  const float* places;  // (rows, 4)
  const float* normalizer;
};

// *first_outside = the first row whose place lies outside the predictions, `rows` if none does.
// To be checked before the two below, which read and write where the places say.
void FindOutsideCuda(const SelectionPointers& in, int* first_outside, cudaStream_t stream);

// *loss = scale / max(*normalizer, 1) * sum of L(selected prediction - target).
void SelectBalancedL1LossCuda(const BalancedL1& formula, const SelectionPointers& in, float scale,
                              double* partial_sums, float* loss, cudaStream_t stream);

// d_prediction = *d_loss * the loss's derivative, zero where nothing is selected. `scratch` must
// hold SelectScratch(rows) integers.
void SelectBalancedL1GradientCuda(const BalancedL1& formula, const SelectionPointers& in,
                                  float scale, const float* d_loss, float* d_prediction,
                                  int32_t* scratch, cudaStream_t stream);
int64_t SelectScratch(int64_t rows);

// Logits (anchors * classes, positions), labels and weights (anchors, positions), anchors those of
// all images.
struct FocalPointers {
  int64_t anchors, classes, positions;
  const float* logits;
  const int32_t* labels;
  const float* weights;
  const float* normalizer;
  float gamma, alpha;

  int64_t size() const { return anchors * classes * positions; }
};

// *loss = scale / max(*normalizer, 1) * sum of weight * focal loss.
void WeightedSigmoidFocalLossCuda(const FocalPointers& in, float scale, double* partial_sums,
                                  float* loss, cudaStream_t stream);

// d_logits = *d_loss * the loss's derivative.
void WeightedSigmoidFocalGradientCuda(const FocalPointers& in, float scale, const float* d_loss,
                                      float* d_logits, cudaStream_t stream);

}  // namespace detectron_ext
