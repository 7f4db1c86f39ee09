#include "kernels/losses_cuda.h"

namespace detectron_ext {
namespace {

// ---------------------------------------------------------------------------------------------
// Sums
// ---------------------------------------------------------------------------------------------

// Adds the values of a block's threads in a fixed tree; the result is thread 0's.
__device__ double SumOfBlock(double value) {
  __shared__ double values[kCudaThreads];
  values[threadIdx.x] = value;
  for (int half = kCudaThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) {
      values[threadIdx.x] += values[threadIdx.x + half];
    }
  }
  __syncthreads();
  return values[0];
}

// Elements [0, 4 * quads) are taken four at a time, the rest one by one.
template <typename Terms>
__global__ void __launch_bounds__(kCudaThreads)
    SumKernel(Terms terms, int64_t quads, int64_t size, double* partial_sums) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  double sum = 0;
  for (int64_t quad = thread; quad < quads; quad += threads) {
    sum += terms.Quad(quad);
  }
  for (int64_t i = 4 * quads + thread; i < size; i += threads) {
    sum += terms.One(i);
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    partial_sums[blockIdx.x] = sum;
  }
}

// *loss = scale / max(*normalizer, 1) * the sum of partial_sums; no normalizer counts as 1.
__global__ void __launch_bounds__(kCudaThreads)
    FinishKernel(const double* partial_sums, int count, float scale, const float* normalizer,
                 float* loss) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kCudaThreads) {
    sum += partial_sums[i];
  }
  sum = SumOfBlock(sum);
  if (threadIdx.x == 0) {
    const double divisor = normalizer != nullptr && *normalizer > 1.0f ? *normalizer : 1.0f;
    *loss = static_cast<float>(scale * sum / divisor);
  }
}

template <typename Terms>
void Sum(const char* name, const Terms& terms, int64_t quads, int64_t size, float scale,
         const float* normalizer, double* partial_sums, float* loss, cudaStream_t stream) {
  const int64_t wanted = (size / 4 + kCudaThreads - 1) / kCudaThreads;
  const int blocks = static_cast<int>(
      std::max<int64_t>(1, std::min<int64_t>(wanted, kLossPartialSums)));
  LaunchCuda(name, SumKernel<Terms>, blocks, kCudaThreads, stream, terms, quads, size,
             partial_sums);
  LaunchCuda(name, FinishKernel, 1, kCudaThreads, stream, partial_sums, blocks, scale, normalizer,
             loss);
}

// ---------------------------------------------------------------------------------------------
// Dense balanced L1
// ---------------------------------------------------------------------------------------------

__device__ __forceinline__ float4 LoadQuad(const float* from, int64_t quad) {
  return reinterpret_cast<const float4*>(from)[quad];
}

struct DenseTerms {
  BalancedL1 formula;
  DenseLossInputs in;

  __device__ float Term(float prediction, float target, float inside, float outside) const {
    return outside * formula.Loss(inside * (prediction - target));
  }
  __device__ float One(int64_t i) const {
    return Term(in.prediction[i], in.target[i], in.inside[i], in.outside[i]);
  }
  __device__ float Quad(int64_t quad) const {
    const float4 p = LoadQuad(in.prediction, quad);
    const float4 t = LoadQuad(in.target, quad);
    const float4 i = LoadQuad(in.inside, quad);
    const float4 o = LoadQuad(in.outside, quad);
    return (Term(p.x, t.x, i.x, o.x) + Term(p.y, t.y, i.y, o.y)) +
        (Term(p.z, t.z, i.z, o.z) + Term(p.w, t.w, i.w, o.w));
  }
};

struct DenseSlopes {
  BalancedL1 formula;
  DenseLossInputs in;

  __device__ float Slope(float factor, float prediction, float target, float inside,
                         float outside) const {
    return factor * formula.Gradient(inside * (prediction - target)) * inside * outside;
  }
};

__global__ void __launch_bounds__(kCudaThreads)
    DenseGradientKernel(DenseSlopes slopes, int64_t quads, float scale, const float* d_loss,
                        float* d_prediction) {
  const DenseLossInputs& in = slopes.in;
  const float factor = scale * *d_loss;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  for (int64_t quad = thread; quad < quads; quad += threads) {
    const float4 p = LoadQuad(in.prediction, quad);
    const float4 t = LoadQuad(in.target, quad);
    const float4 i = LoadQuad(in.inside, quad);
    const float4 o = LoadQuad(in.outside, quad);
    float4 slope;
    slope.x = slopes.Slope(factor, p.x, t.x, i.x, o.x);
    slope.y = slopes.Slope(factor, p.y, t.y, i.y, o.y);
    slope.z = slopes.Slope(factor, p.z, t.z, i.z, o.z);
    slope.w = slopes.Slope(factor, p.w, t.w, i.w, o.w);
    reinterpret_cast<float4*>(d_prediction)[quad] = slope;
  }
  for (int64_t i = 4 * quads + thread; i < in.size; i += threads) {
    d_prediction[i] =
        slopes.Slope(factor, in.prediction[i], in.target[i], in.inside[i], in.outside[i]);
  }
}

bool AlignedForQuads(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % sizeof(float4) == 0;
}

int64_t QuadsOf(const DenseLossInputs& in) {
  const bool aligned = AlignedForQuads(in.prediction) && AlignedForQuads(in.target) &&
      AlignedForQuads(in.inside) && AlignedForQuads(in.outside);
  return aligned ? in.size / 4 : 0;
}

// ---------------------------------------------------------------------------------------------
// Selected balanced L1
// ---------------------------------------------------------------------------------------------

__device__ bool PlaceIsInside(const SelectionPointers& in, const float* place) {
  return place[0] > -1 && place[0] < in.n && place[1] > -1 && place[1] < in.c - 3 &&
      place[2] > -1 && place[2] < in.h && place[3] > -1 && place[3] < in.w;
}

// The index of side `i % 4` of row `i / 4` in the predictions.
__device__ int64_t SelectedIndex(const SelectionPointers& in, int64_t i) {
  const float* place = in.places + i / 4 * 4;
  const int64_t n = static_cast<int64_t>(place[0]);
  const int64_t c = static_cast<int64_t>(place[1]) + i % 4;
  const int64_t y = static_cast<int64_t>(place[2]);
  const int64_t x = static_cast<int64_t>(place[3]);
  return ((n * in.c + c) * in.h + y) * in.w + x;
}

__global__ void FindOutsideKernel(SelectionPointers in, int* first_outside) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; row < in.rows;
       row += threads) {
    if (!PlaceIsInside(in, in.places + 4 * row)) {
      atomicMin(first_outside, static_cast<int>(row));
    }
  }
}

__global__ void SetKernel(int* where, int value) { *where = value; }

struct SelectTerms {
  BalancedL1 formula;
  SelectionPointers in;

  __device__ float One(int64_t i) const {
    return formula.Loss(in.prediction[SelectedIndex(in, i)] - in.target[i]);
  }
  __device__ float Quad(int64_t) const { return 0.0f; }  // not asked for
};

// One block adds all rows, a chunk at a time, in ascending order: rows may select the same
// prediction.
__global__ void __launch_bounds__(kCudaThreads)
    AddRowsKernel(BalancedL1 formula, SelectionPointers in, float scale, const float* d_loss,
                  float* d_prediction) {
  __shared__ int64_t places[kCudaThreads];
  __shared__ float slopes[kCudaThreads];
  const float divisor = *in.normalizer > 1.0f ? *in.normalizer : 1.0f;
  const float factor = scale * *d_loss / divisor;
  for (int64_t first = 0; first < 4 * in.rows; first += kCudaThreads) {
    const int64_t i = first + threadIdx.x;
    const int count = static_cast<int>(
        4 * in.rows - first < kCudaThreads ? 4 * in.rows - first : kCudaThreads);
    const int self = threadIdx.x;
    if (self < count) {
      places[self] = SelectedIndex(in, i);
      slopes[self] = factor * formula.Gradient(in.prediction[places[self]] - in.target[i]);
    }
    __syncthreads();
    // The first thread of those with the same place adds for all of them.
    bool is_first = self < count;
    for (int other = 0; is_first && other < self; ++other) {
      is_first = places[other] != places[self];
    }
    if (is_first) {
      float sum = d_prediction[places[self]];
      for (int other = self; other < count; ++other) {
        sum += places[other] == places[self] ? slopes[other] : 0.0f;
      }
      d_prediction[places[self]] = sum;
    }
    __syncthreads();
  }
}

// ---------------------------------------------------------------------------------------------
// Weighted sigmoid focal loss
// ---------------------------------------------------------------------------------------------

// Index is uint32_t where the number of logits fits it: its divisions are several times as fast.
template <bool kGammaTwo, typename Index>
struct FocalTerms {
  SigmoidFocal<kGammaTwo> formula;
  FocalPointers in;

  struct Place {
    Index anchor;
    int32_t class_label;
  };
  __device__ Place PlaceOf(Index i) const {
    const Index plane = i / static_cast<Index>(in.positions);
    const Index position = i - plane * static_cast<Index>(in.positions);
    const Index group = plane / static_cast<Index>(in.classes);
    return {group * static_cast<Index>(in.positions) + position,
            static_cast<int32_t>(plane - group * static_cast<Index>(in.classes)) + 1};
  }
  __device__ float One(int64_t i) const {
    const Place place = PlaceOf(static_cast<Index>(i));
    return in.weights[place.anchor] *
        formula.Loss(in.logits[i], in.labels[place.anchor], place.class_label);
  }
  __device__ float Quad(int64_t) const { return 0.0f; }  // not asked for
  __device__ float Slope(int64_t i) const {
    const Place place = PlaceOf(static_cast<Index>(i));
    return in.weights[place.anchor] *
        formula.Gradient(in.logits[i], in.labels[place.anchor], place.class_label);
  }
};

template <typename Terms>
__global__ void __launch_bounds__(kCudaThreads)
    FocalGradientKernel(Terms terms, int64_t size, float scale, const float* d_loss,
                        float* d_logits) {
  const float normalizer = *terms.in.normalizer;
  const float factor = scale * *d_loss / (normalizer > 1.0f ? normalizer : 1.0f);
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x; i < size;
       i += threads) {
    d_logits[i] = factor * terms.Slope(i);
  }
}

// Calls use(terms) with the FocalTerms that fit `in`.
template <bool kGammaTwo, typename Use>
void WithFocalTerms(const FocalPointers& in, const Use& use) {
  const SigmoidFocal<kGammaTwo> formula{in.gamma, in.alpha, 1.0f - in.alpha};
  if (in.size() < INT64_C(0xffffffff)) {
    use(FocalTerms<kGammaTwo, uint32_t>{formula, in});
  } else {
    use(FocalTerms<kGammaTwo, uint64_t>{formula, in});
  }
}

struct FocalLossLauncher {
  const FocalPointers& in;
  float scale;
  double* partial_sums;
  float* loss;
  cudaStream_t stream;

  template <typename Terms>
  void operator()(const Terms& terms) const {
    Sum("WeightedSigmoidFocalLoss", terms, 0, in.size(), scale, in.normalizer, partial_sums, loss,
        stream);
  }
};

struct FocalGradientLauncher {
  const FocalPointers& in;
  float scale;
  const float* d_loss;
  float* d_logits;
  cudaStream_t stream;

  template <typename Terms>
  void operator()(const Terms& terms) const {
    LaunchCuda("WeightedSigmoidFocalLossGradient", FocalGradientKernel<Terms>,
               CudaBlocks(in.size()), kCudaThreads, stream, terms, in.size(), scale, d_loss,
               d_logits);
  }
};

}  // namespace

void BalancedL1LossCuda(const BalancedL1& formula, const DenseLossInputs& in, float factor,
                        double* partial_sums, float* loss, cudaStream_t stream) {
  Sum("BalancedL1Loss", DenseTerms{formula, in}, QuadsOf(in), in.size, factor, nullptr,
      partial_sums, loss, stream);
}

void BalancedL1GradientCuda(const BalancedL1& formula, const DenseLossInputs& in, float factor,
                            const float* d_loss, float* d_prediction, cudaStream_t stream) {
  const int64_t quads = AlignedForQuads(d_prediction) ? QuadsOf(in) : 0;
  LaunchCuda("BalancedL1LossGradient", DenseGradientKernel, CudaBlocks(in.size / 4), kCudaThreads,
             stream, DenseSlopes{formula, in}, quads, factor, d_loss, d_prediction);
}

void FindOutsideCuda(const SelectionPointers& in, int* first_outside, cudaStream_t stream) {
  LaunchCuda("SelectBalancedL1Loss", SetKernel, 1, 1, stream, first_outside,
             static_cast<int>(in.rows));
  LaunchCuda("SelectBalancedL1Loss", FindOutsideKernel, CudaBlocks(in.rows), kCudaThreads, stream,
             in, first_outside);
}

void SelectBalancedL1LossCuda(const BalancedL1& formula, const SelectionPointers& in, float scale,
                              double* partial_sums, float* loss, cudaStream_t stream) {
  Sum("SelectBalancedL1Loss", SelectTerms{formula, in}, 0, 4 * in.rows, scale, in.normalizer,
      partial_sums, loss, stream);
}

void SelectBalancedL1GradientCuda(const BalancedL1& formula, const SelectionPointers& in,
                                  float scale, const float* d_loss, float* d_prediction,
                                  cudaStream_t stream) {
  const int64_t size = in.n * in.c * in.h * in.w;
  CheckCuda(cudaMemsetAsync(d_prediction, 0, size * sizeof(float), stream),
            "SelectBalancedL1LossGradient");
  LaunchCuda("SelectBalancedL1LossGradient", AddRowsKernel, 1, kCudaThreads, stream, formula, in,
             scale, d_loss, d_prediction);
}

void WeightedSigmoidFocalLossCuda(const FocalPointers& in, float scale, double* partial_sums,
                                  float* loss, cudaStream_t stream) {
  const FocalLossLauncher launch{in, scale, partial_sums, loss, stream};
  if (in.gamma == 2.0f) {
    WithFocalTerms<true>(in, launch);
  } else {
    WithFocalTerms<false>(in, launch);
  }
}

void WeightedSigmoidFocalGradientCuda(const FocalPointers& in, float scale, const float* d_loss,
                                      float* d_logits, cudaStream_t stream) {
  const FocalGradientLauncher launch{in, scale, d_loss, d_logits, stream};
  if (in.gamma == 2.0f) {
    WithFocalTerms<true>(in, launch);
  } else {
    WithFocalTerms<false>(in, launch);
  }
}

}  // namespace detectron_ext
