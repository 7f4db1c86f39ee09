// The losses of Libra R-CNN on CUDA. Pointers are to device memory unless a comment says otherwise.
// The order in which numbers are added depends only on the sizes.
#pragma once

#include <cstdint>

#include "kernels/cuda_launch.h"
#include "kernels/dense_loss.h"
#include "kernels/selected_places.h"

namespace detectron_ext {

// Doubles that `partial_sums` of the loss functions must hold: the most blocks of threads of a sum.
constexpr int kLossPartialSums = 4096;

// ---- Box losses. A Formula is as in kernels/dense_loss.h; kernels/box_losses_cuda.cu instantiates
// the functions for every formula that has operators on CUDA. `name` is the operator's, for errors.

// *loss = factor * sum of outside * L(inside * (prediction - target)).
template <typename Formula>
void DenseLossCuda(const char* name, const Formula& formula, const DenseLossInputs& in,
                   float factor, double* partial_sums, float* loss, cudaStream_t stream);

// d_prediction = factor * *d_loss * the derivative of that sum.
template <typename Formula>
void DenseLossGradientCuda(const char* name, const Formula& formula, const DenseLossInputs& in,
                           float factor, const float* d_loss, float* d_prediction,
                           cudaStream_t stream);

// The number of rows of a selection must be below this.
constexpr int64_t kMaxCudaRows = 1 << 29;

// Predictions of shape `map`, of which `rows` places (n, c, y, x) select four channels each.
struct SelectionPointers {
  MapShape map;
  const float* prediction;
  int64_t rows;
  const float* target;      // (rows, 4)
  const float* places;      // (rows, 4)
  const float* normalizer;  // one number
  const float* weights;     // (rows,), or nullptr for weights of 1
};

// *first_outside = the first row whose place lies outside the predictions, `rows` if there is none.
// Call this before the two functions below. They do not check places before they read and write
// there.
void FindOutsideCuda(const char* name, const SelectionPointers& in, int* first_outside,
                     cudaStream_t stream);

// *loss = scale / max(*normalizer, 1) * sum of weight * L(selected prediction - target).
template <typename Formula>
void SelectLossCuda(const char* name, const Formula& formula, const SelectionPointers& in,
                    float scale, double* partial_sums, float* loss, cudaStream_t stream);

// d_prediction = *d_loss * the derivative of that loss, 0 where nothing is selected. `scratch` must
// hold SelectScratch(rows) integers.
template <typename Formula>
void SelectLossGradientCuda(const char* name, const Formula& formula, const SelectionPointers& in,
                            float scale, const float* d_loss, float* d_prediction, int32_t* scratch,
                            cudaStream_t stream);
inline int64_t SelectScratch(int64_t rows) { return 4 * rows; }

// ---- Sigmoid focal loss.

// Logits (anchors * classes, positions), labels and weights (anchors, positions); `anchors` counts
// those of all images.
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

// d_logits = *d_loss * the derivative of that loss.
void WeightedSigmoidFocalGradientCuda(const FocalPointers& in, float scale, const float* d_loss,
                                      float* d_logits, cudaStream_t stream);

}  // namespace detectron_ext
