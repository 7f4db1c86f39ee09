// Forward attention on CUDA. Rows are queries and columns are keys. A streaming softmax turns
// scores into weights.
#include <math.h>

#include "kernels/attention_tile_cuda.h"

namespace detectron_ext {
namespace {

// The state of the softmax of a block's rows, in shared memory. Tiles of scores are added one after
// another.
struct Softmax {
  static constexpr int kParts = kCudaThreads / kAttentionRows;  // threads that share a row

  float* maximum;  // [row]
  float* total;    // [row]
  float* factor;   // [row], multiplies the sums of earlier tiles
  float* partial;  // [part][row]

  __device__ explicit Softmax(float* memory)
      : maximum(memory),
        total(memory + kAttentionRows),
        factor(memory + 2 * kAttentionRows),
        partial(memory + 3 * kAttentionRows) {}

  __device__ void Clear() const {
    if (threadIdx.x < kAttentionRows) {
      maximum[threadIdx.x] = -INFINITY;
      total[threadIdx.x] = 0;
    }
  }
};

// Turns scores in weights[column][row] into exp(score - the row's maximum so far). Columns from
// `count` on get 0.
template <typename Products>
__device__ __forceinline__ void Exponentiate(int count, float* weights, const Softmax& softmax) {
  constexpr int kParts = Softmax::kParts;
  constexpr int kOwn = Products::kColumns / kParts;
  const int row = threadIdx.x % kAttentionRows;
  const int part = threadIdx.x / kAttentionRows;
  float* own = weights + part * kOwn * Products::kWeightStride + row;
  const int inside = count - part * kOwn;
  __syncthreads();
  float held[kOwn];
  float maximum = -INFINITY;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    held[i] = own[i * Products::kWeightStride];
    maximum = i < inside ? fmaxf(maximum, held[i]) : maximum;
  }
  softmax.partial[part * kAttentionRows + row] = maximum;
  __syncthreads();
  const float before = softmax.maximum[row];
  maximum = before;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
    maximum = fmaxf(maximum, softmax.partial[p * kAttentionRows + row]);
  }
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const float weight = i < inside ? Exp(held[i] - maximum) : 0.0f;
    own[i * Products::kWeightStride] = weight;
    sum += weight;
  }
  softmax.partial[part * kAttentionRows + row] = sum;
  __syncthreads();
  if (part == 0) {
    softmax.factor[row] = Exp(before - maximum);
    softmax.maximum[row] = maximum;
    float total = softmax.total[row] * softmax.factor[row];
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      total += softmax.partial[p * kAttentionRows + row];
    }
    softmax.total[row] = total;
  }
  __syncthreads();
}

struct ForwardOutputs {
  float* out;  // or nullptr
  float* log_sums;
  AttentionScratchParts parts;
};

// Writes the sums of one of several splits, or the result if there is only one split.
template <typename Products>
__device__ __forceinline__ void StoreForward(const AttentionShape& shape, int split_columns,
                                             const AttentionBlock& block, const Softmax& softmax,
                                             const float (&sums)[Products::kSums],
                                             const ForwardOutputs& outputs) {
  const bool whole = split_columns >= shape.positions;
  const int row = threadIdx.x;
  const int64_t split_image = block.SplitImage(split_columns);
  if (row < kAttentionRows && block.row0 + row < shape.positions && blockIdx.y == 0) {
    if (whole) {
      outputs.log_sums[block.image * shape.positions + block.row0 + row] =
          softmax.maximum[row] + logf(softmax.total[row]);
    } else {
      const int64_t at = split_image * shape.positions + block.row0 + row;
      outputs.parts.maxima[at] = softmax.maximum[row];
      outputs.parts.totals[at] = softmax.total[row];
    }
  }
  if (outputs.out == nullptr) {
    return;
  }
  __syncthreads();
  if (row < kAttentionRows) {
    softmax.factor[row] = whole ? 1.0f / softmax.total[row] : 1.0f;
  }
  __syncthreads();
  StoreSums<Products>(sums, softmax.factor, shape, block,
                      (whole ? outputs.out : outputs.parts.sums) + split_image * ImageSize(shape));
}

// Computes the result, or one split of it (AttentionPlan).
template <typename Products>
__global__ void __launch_bounds__(kCudaThreads, Products::kBlocksPerMultiprocessor)
    AttentionKernel(AttentionShape shape, int split_columns, const float* theta, const float* phi,
                    const float* g, ForwardOutputs outputs) {
  if (!Products::kRuns) {
    return;
  }
  DETECTRON_EXT_DYNAMIC_SHARED(memory);
  const AttentionShared<Products> shared{memory};
  const Softmax softmax(shared.Extra());
  const AttentionBlock block = AttentionBlock::OfThread(shape, split_columns);
  ScorePhase<Products> score_phase{shared, MapOfImage(shape, theta, block.image),
                                   MapOfImage(shape, phi, block.image), block.row0,
                                   block.first_column};
  SumPhase<Products> sum_phase{shared, MapOfImage(shape, g, block.image), block.channel0, 0};
  softmax.Clear();
  float sums[Products::kSums] = {};
  score_phase.Start();
  for (int column0 = block.first_column; column0 < block.last_column;
       column0 += Products::kColumns) {
    float scores[Products::kScores];
    score_phase.Finish(scores);
    sum_phase.column0 = column0;
    if (outputs.out != nullptr) {
      sum_phase.Start();
    }
#pragma unroll
    for (int i = 0; i < Products::kScores; ++i) {
      scores[i] *= shape.scale;
    }
    StoreScores<Products>(scores, shared.Weights());
    const int left = block.last_column - column0;
    Exponentiate<Products>(left < Products::kColumns ? left : Products::kColumns, shared.Weights(),
                           softmax);
    if (outputs.out != nullptr) {
#pragma unroll
      for (int i = 0; i < Products::kSums; ++i) {
        sums[i] *= softmax.factor[Products::SumRow(i)];
      }
      sum_phase.Finish(sums);
    }
    score_phase.column0 = column0 + Products::kColumns;
    if (score_phase.column0 < block.last_column) {
      score_phase.Start();
    }
  }
  StoreForward<Products>(shape, split_columns, block, softmax, sums, outputs);
}

constexpr int kCombinedChannels = 32;  // channels that a thread of CombineKernel writes
static_assert(kMaxCudaChannels <= 65535 * kCombinedChannels, "CombineKernel's grid is too high");

// Merges the splits of a row. Each split is relative to its own maximum.
__global__ void __launch_bounds__(kCudaThreads)
    CombineKernel(AttentionShape shape, int splits, ForwardOutputs outputs) {
  const int64_t position = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
  if (position >= shape.positions) {
    return;
  }
  const AttentionScratchParts& parts = outputs.parts;
  const int64_t row = blockIdx.z * shape.positions + position;
  const int64_t rows = gridDim.z * shape.positions;
  float maximum = -INFINITY;
  for (int s = 0; s < splits; ++s) {
    maximum = fmaxf(maximum, parts.maxima[s * rows + row]);
  }
  float total = 0;
  for (int s = 0; s < splits; ++s) {
    total += Exp(parts.maxima[s * rows + row] - maximum) * parts.totals[s * rows + row];
  }
  if (blockIdx.y == 0) {
    outputs.log_sums[row] = maximum + logf(total);
  }
  if (outputs.out == nullptr) {
    return;
  }
  const int64_t channel0 = static_cast<int64_t>(blockIdx.y) * kCombinedChannels;
  for (int64_t c = channel0; c < channel0 + kCombinedChannels && c < shape.channels; ++c) {
    const int64_t at = (blockIdx.z * shape.channels + c) * shape.positions + position;
    float sum = 0;
    for (int s = 0; s < splits; ++s) {
      sum += Exp(parts.maxima[s * rows + row] - maximum) *
          parts.sums[s * gridDim.z * ImageSize(shape) + at];
    }
    outputs.out[at] = sum / total;
  }
}

template <typename Products>
void Launch(const AttentionShape& shape, const float* theta, const float* phi, const float* g,
            float* out, float* log_sums, float* scratch, cudaStream_t stream) {
  const char* const name = "EmbeddedGaussianAttention";
  AttentionPlan plan = PlanAttention(shape, Products::kColumns, Products::kBlocksPerMultiprocessor);
  if (out == nullptr) {
    plan.grid.y = 1;
  }
  const ForwardOutputs outputs{out, log_sums, PartsOfScratch(shape, plan.splits, scratch)};
  LaunchCudaShared(name, AttentionKernel<Products>, plan.grid, kCudaThreads,
                   AttentionShared<Products>::kFloats * sizeof(float), stream, shape,
                   plan.split_columns, theta, phi, g, outputs);
  if (plan.splits > 1) {
    const dim3 grid(
        static_cast<unsigned>((shape.positions + kCudaThreads - 1) / kCudaThreads),
        out == nullptr
            ? 1u
            : static_cast<unsigned>((shape.channels + kCombinedChannels - 1) / kCombinedChannels),
        static_cast<unsigned>(shape.images));
    LaunchCuda(name, CombineKernel, grid, kCudaThreads, stream, shape, plan.splits, outputs);
  }
}

__global__ void __launch_bounds__(kCudaThreads) FillKernel(int64_t size, float value, float* to) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
  for (int64_t i = first; i < size; i += static_cast<int64_t>(gridDim.x) * kCudaThreads) {
    to[i] = value;
  }
}

}  // namespace

void AttentionCuda(const AttentionShape& shape, AttentionProducts products, const float* theta,
                   const float* phi, const float* g, float* out, float* log_sums, float* scratch,
                   cudaStream_t stream) {
  const int64_t rows = shape.images * shape.positions;
  if (rows == 0) {
    return;
  }
  if (shape.channels == 0) {  // all scores are 0
    LaunchCuda("EmbeddedGaussianAttention", FillKernel, CudaBlocks(rows), kCudaThreads, stream,
               rows, logf(static_cast<float>(shape.positions)), log_sums);
    return;
  }
  if (UseTensorCores(products, reinterpret_cast<const void*>(&AttentionKernel<TensorProducts>))) {
    Launch<TensorProducts>(shape, theta, phi, g, out, log_sums, scratch, stream);
  } else {
    Launch<Float32Products>(shape, theta, phi, g, out, log_sums, scratch, stream);
  }
}

}  // namespace detectron_ext
