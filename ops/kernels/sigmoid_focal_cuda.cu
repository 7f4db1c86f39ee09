// Weighted sigmoid focal loss on CUDA. A thread takes some neighbouring positions of an anchor and
// kClasses of its classes, which share labels and weights.
//
// The loss of a negative logit x is softplus(x) sigmoid(x)^gamma. The loss of a positive logit x is
// the same function of -x. Each is multiplied by its weight. This takes fewer instructions than
// SigmoidFocal in kernels/sigmoid_focal.h, so that arithmetic is not slower than memory. As there,
// bounds are conditional expressions, because fminf and fmaxf would lose a NaN.
#include <cfloat>

#include "kernels/cuda_math.h"
#include "kernels/loss_sum_cuda.h"
#include "kernels/sigmoid_focal.h"

namespace detectron_ext {
namespace {

constexpr int kClasses = 8;  // of a thread, at most
constexpr int kAtOnce = 4;   // classes whose logits are loaded before the first is used

// With t = e^-|x|: softplus(x) = ln(1 + e^x) = max(x, 0) + ln(1 + t), and ln(1 + t) is
// 2 artanh(s), s = t / (2 + t) <= 1/3: s times a minimax polynomial in s^2 (error 7.8e-9).
struct Softplus {
  float value;
  float tail;  // ln(1 + t)
  float sigmoid;
  float complement;  // 1 - sigmoid, without cancellation

  __device__ __forceinline__ explicit Softplus(float x) {
    const float t = FastExp2(-1.44269504f * fabsf(x));
    const float u = 1.0f + t;
    const float v = 2.0f + t;
    const float reciprocal = FastReciprocal(u * v);
    const float s = t * (reciprocal * u);
    const float square = s * s;
    float q = 0.281783223f;
    q = q * square + 0.279605865f;
    q = q * square + 0.400249124f;
    q = q * square + 0.666663170f;
    q = q * square + 2.0f;
    const float one_over_u = reciprocal * v;
    const bool positive = x >= 0.0f;
    tail = s * q;
    value = tail + fmaxf(x, 0.0f);
    sigmoid = (positive ? 1.0f : t) * one_over_u;
    complement = (positive ? t : 1.0f) * one_over_u;
  }
};

// The loss of a negative logit and what follows from it, without the weights of the classes.
template <bool kGammaTwo>
struct Focal {
  float gamma;

  // Returns sigmoid(x)^gamma.
  __device__ __forceinline__ float Power(const Softplus& s, float x) const {
    if (kGammaTwo) {
      return s.sigmoid * s.sigmoid;
    }
    const float log_sigmoid = (x < 0.0f ? x : 0.0f) - s.tail;
    return Exp(gamma * (log_sigmoid < kLogOfSmallest ? kLogOfSmallest : log_sigmoid));
  }
  // The loss of a negative logit x.
  __device__ __forceinline__ float Loss(float x) const {
    const Softplus s(x);
    return Power(s, x) * s.value;
  }
  // The derivative of Loss.
  __device__ __forceinline__ float Slope(float x) const {
    const Softplus s(x);
    return Power(s, x) * (gamma * s.complement * s.value + s.sigmoid);
  }
  // The loss of a positive logit -x. The logarithm is cut off at that of the smallest normal float,
  // as in Detectron.
  __device__ float PositiveLoss(float x) const {
    const Softplus s(x);
    return Power(s, x) * (s.value > -kLogOfSmallest ? -kLogOfSmallest : s.value);
  }
  // Minus the derivative of the loss of a positive logit -x. The cut does not change it. The result
  // is finite even if x is infinite.
  __device__ __forceinline__ float PositiveSlope(float x) const {
    return Slope(x > FLT_MAX ? FLT_MAX : x);
  }
};

// kRun positions of an anchor and up to kClasses of its classes.
template <int kRun>
struct Item {
  int64_t first_logit;  // of its first class
  int64_t first_label;
  int first_class;
  int classes;

  // Items are ordered by anchor, then classes, then positions.
  __device__ __forceinline__ Item(const FocalPointers& in, uint32_t index) {
    const uint32_t runs = static_cast<uint32_t>(in.positions / kRun);
    const uint32_t groups = static_cast<uint32_t>((in.classes + kClasses - 1) / kClasses);
    const uint32_t line = index / runs;
    const int64_t anchor = line / groups;
    const int64_t position = static_cast<int64_t>(index - line * runs) * kRun;
    first_class = static_cast<int>(line % groups) * kClasses;
    classes = min(static_cast<int>(in.classes) - first_class, kClasses);
    first_label = anchor * in.positions + position;
    first_logit = (anchor * in.classes + first_class) * in.positions + position;
  }
};

// Logits of classes [c, c + kAtOnce) of an item. Beyond its classes they are -FLT_MAX, whose loss
// is 0.
template <int kRun>
struct Logits {
  Run<kRun, float> of_class[kAtOnce];

  __device__ __forceinline__ Logits(const FocalPointers& in, const Item<kRun>& item, int c) {
    const float* const logits = in.logits + item.first_logit;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
      for (int j = 0; j < kRun; ++j) {
        of_class[k].values[j] = -FLT_MAX;
      }
      if (c + k < item.classes) {
        of_class[k] = Run<kRun, float>::Load(logits + (c + k) * in.positions);
      }
    }
  }
};

// Returns the number of items of `run` positions. Throws if a kernel cannot count them.
inline int64_t ItemsOf(const FocalPointers& in, int run) {
  const int64_t items =
      in.anchors * ((in.classes + kClasses - 1) / kClasses) * (in.positions / run);
  if (items > INT32_MAX || in.classes > INT32_MAX - kClasses) {
    throw std::invalid_argument("WeightedSigmoidFocalLoss: too many logits for CUDA");
  }
  return items;
}

// The sum of an item's terms.
template <bool kGammaTwo, int kRun>
__device__ __forceinline__ float SumOfItem(const FocalPointers& in, const Focal<kGammaTwo>& focal,
                                           const Item<kRun>& item) {
  const auto labels = Run<kRun, int32_t>::Load(in.labels + item.first_label);
  const auto weights = Run<kRun, float>::Load(in.weights + item.first_label);
  float negatives[kRun] = {};
#pragma unroll
  for (int c = 0; c < kClasses; c += kAtOnce) {
    const Logits<kRun> logits(in, item, c);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
      for (int j = 0; j < kRun; ++j) {
        const bool positive = labels.values[j] == item.first_class + c + k + 1;
        negatives[j] += focal.Loss(positive ? -FLT_MAX : logits.of_class[k].values[j]);
      }
    }
  }
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kRun; ++j) {
    float loss = (1.0f - in.alpha) * negatives[j];
    if (labels.values[j] > item.first_class &&
        labels.values[j] - item.first_class <= item.classes) {
      const int own = labels.values[j] - item.first_class - 1;
      loss += in.alpha * focal.PositiveLoss(-in.logits[item.first_logit + own * in.positions + j]);
    }
    sum += labels.values[j] == -1 ? 0.0f : weights.values[j] * loss;
  }
  return sum;
}

template <bool kGammaTwo, int kRun>
__global__ void __launch_bounds__(kCudaThreads)
    FocalLossKernel(FocalPointers in, uint32_t items, double* partial_sums) {
  const Focal<kGammaTwo> focal{in.gamma};
  const uint32_t threads = gridDim.x * kCudaThreads;
  double sum = 0;
  for (uint32_t i = blockIdx.x * kCudaThreads + threadIdx.x; i < items; i += threads) {
    sum += SumOfItem(in, focal, Item<kRun>(in, i));
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    partial_sums[blockIdx.x] = sum;
  }
}

template <bool kGammaTwo, int kRun>
__global__ void __launch_bounds__(kCudaThreads)
    FocalGradientKernel(FocalPointers in, uint32_t items, float scale, const float* d_loss,
                        float* d_logits) {
  const Focal<kGammaTwo> focal{in.gamma};
  const float factor = scale * *d_loss / Divisor(in.normalizer);
  const uint32_t threads = gridDim.x * kCudaThreads;
  for (uint32_t i = blockIdx.x * kCudaThreads + threadIdx.x; i < items; i += threads) {
    const Item<kRun> item(in, i);
    const auto labels = Run<kRun, int32_t>::Load(in.labels + item.first_label);
    const auto weights = Run<kRun, float>::Load(in.weights + item.first_label);
#pragma unroll
    for (int c = 0; c < kClasses; c += kAtOnce) {
      const Logits<kRun> logits(in, item, c);
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (c + k >= item.classes) {
          break;
        }
        Run<kRun, float> slopes;
#pragma unroll
        for (int j = 0; j < kRun; ++j) {
          const int32_t label = labels.values[j];
          const bool positive = label == item.first_class + c + k + 1;
          const float x = logits.of_class[k].values[j];
          const float slope =
              positive ? -in.alpha * focal.PositiveSlope(-x) : (1.0f - in.alpha) * focal.Slope(x);
          slopes.values[j] = label == -1 ? 0.0f : factor * weights.values[j] * slope;
        }
        slopes.Store(d_logits + item.first_logit + (c + k) * in.positions);
      }
    }
  }
}

// Returns whether the sizes and the addresses allow four positions at a time.
bool InFours(const FocalPointers& in, const float* d_logits) {
  return in.positions % 4 == 0 &&
      AlignedTo(4 * sizeof(float), in.logits, in.labels, in.weights, d_logits);
}

// Calls use.Launch<kGammaTwo, kRun>() with the template arguments that fit `in`.
template <typename Use>
void WithFocal(const FocalPointers& in, bool fours, const Use& use) {
  if (in.gamma == 2.0f) {
    fours ? use.template Launch<true, 4>() : use.template Launch<true, 1>();
  } else {
    fours ? use.template Launch<false, 4>() : use.template Launch<false, 1>();
  }
}

struct FocalLossLauncher {
  const FocalPointers& in;
  float scale;
  double* partial_sums;
  float* loss;
  cudaStream_t stream;

  template <bool kGammaTwo, int kRun>
  void Launch() const {
    const char* const name = "WeightedSigmoidFocalLoss";
    const int64_t items = ItemsOf(in, kRun);
    const int blocks = BlocksOfSum(items);
    LaunchCuda(name, FocalLossKernel<kGammaTwo, kRun>, blocks, kCudaThreads, stream, in, items,
               partial_sums);
    FinishSum(name, partial_sums, blocks, scale, in.normalizer, loss, stream);
  }
};

struct FocalGradientLauncher {
  const FocalPointers& in;
  float scale;
  const float* d_loss;
  float* d_logits;
  cudaStream_t stream;

  template <bool kGammaTwo, int kRun>
  void Launch() const {
    const int64_t items = ItemsOf(in, kRun);
    LaunchCuda("WeightedSigmoidFocalLossGradient", FocalGradientKernel<kGammaTwo, kRun>,
               CudaBlocks(items), kCudaThreads, stream, in, items, scale, d_loss, d_logits);
  }
};

}  // namespace

void WeightedSigmoidFocalLossCuda(const FocalPointers& in, float scale, double* partial_sums,
                                  float* loss, cudaStream_t stream) {
  WithFocal(in, InFours(in, nullptr), FocalLossLauncher{in, scale, partial_sums, loss, stream});
}

void WeightedSigmoidFocalGradientCuda(const FocalPointers& in, float scale, const float* d_loss,
                                      float* d_logits, cudaStream_t stream) {
  WithFocal(in, InFours(in, d_logits), FocalGradientLauncher{in, scale, d_loss, d_logits, stream});
}

}  // namespace detectron_ext
