// What the forward and the backward kernels of attention share.
//
// A block of threads owns kAttentionRows rows (positions) and kSumChannels channels of its output.
// It processes all columns, or those of its split, one tile at a time: it computes a tile of
// scores, turns it into weights in shared memory, and adds the product of the weights and another
// map to sums in registers. One thread adds up each sum, in a fixed order.
#pragma once

#include "kernels/attention_cuda.h"
#include "kernels/attention_products_cuda.h"
#include "kernels/cuda_copy.h"

namespace detectron_ext {

// A map (channels, positions) of one image.
struct Map {
  const float* data;
  int channels;
  int positions;
  bool in_fours;  // every row starts at a multiple of 16 bytes
};

// The part of a launch that a block of threads computes.
struct AttentionBlock {
  int row0;
  int channel0;
  int image;
  int first_column;
  int last_column;  // one past its last column

  __device__ static AttentionBlock OfThread(const AttentionShape& shape, int split_columns) {
    const int positions = static_cast<int>(shape.positions);
    const int row_blocks = (positions + kAttentionRows - 1) / kAttentionRows;
    const int split = static_cast<int>(blockIdx.x) / row_blocks;
    const int first = split * split_columns;
    const int last = first + split_columns;
    return {(static_cast<int>(blockIdx.x) - split * row_blocks) * kAttentionRows,
            static_cast<int>(blockIdx.y) * kSumChannels, static_cast<int>(blockIdx.z), first,
            last < positions ? last : positions};
  }

  // The index of this block's image among the images of all splits.
  __device__ int64_t SplitImage(int split_columns) const {
    return static_cast<int64_t>(first_column / split_columns) * gridDim.z + image;
  }
};

__device__ inline int64_t ImageSize(const AttentionShape& shape) {
  return shape.channels * shape.positions;
}

__device__ inline Map MapOfImage(const AttentionShape& shape, const float* data, int image) {
  return {data + image * ImageSize(shape), static_cast<int>(shape.channels),
          static_cast<int>(shape.positions),
          shape.positions % 4 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0};
}

// Copies kLines channels x kWidth positions of a map to shared memory, kRun numbers at a time.
// Beyond the map's ends it writes zeros.
template <int kLines, int kWidth, int kStride, int kRun>
__device__ __forceinline__ void CopyRuns(const Map& map, int channel0, int position0, float* to) {
  constexpr int kRuns = kWidth / kRun;
  static_assert(kLines * kRuns % kCudaThreads == 0, "all threads make the same number of copies");
#pragma unroll 4
  for (int step = 0; step < kLines * kRuns / kCudaThreads; ++step) {
    const int i = static_cast<int>(threadIdx.x) + step * kCudaThreads;
    const int channel = channel0 + i / kRuns;
    const int position = position0 + i % kRuns * kRun;
    const bool inside = channel < map.channels && position < map.positions;
    const int64_t at = inside ? static_cast<int64_t>(channel) * map.positions + position : 0;
    CopyOrZero<4 * kRun>(to + i / kRuns * kStride + i % kRuns * kRun, map.data + at, inside);
  }
}

// As CopyRuns, four numbers at a time if the map and the tile allow it, else one.
template <int kLines, int kWidth, int kStride>
__device__ __forceinline__ void CopyTile(const Map& map, int channel0, int position0, float* to) {
  constexpr bool kFours = kWidth % 4 == 0 && kStride % 4 == 0;
  if (kFours && map.in_fours) {
    CopyRuns<kLines, kWidth, kStride, 4>(map, channel0, position0, to);
  } else {
    CopyRuns<kLines, kWidth, kStride, 1>(map, channel0, position0, to);
  }
}

// Shared memory of a block: buffers of the pipelines, weights, and extra memory for the kernel.
template <typename Products>
struct AttentionShared {
  static constexpr int kScoreBuffer =
      Products::kScoreChunk * (Products::kRowStride + Products::kColumnStride);
  static constexpr int kValueBuffer = kSumChannels * Products::kValueStride;
  static constexpr int kBuffer = kScoreBuffer > kValueBuffer ? kScoreBuffer : kValueBuffer;
  static constexpr int kWeights = Products::kColumns * Products::kWeightStride;
  static constexpr int kExtra = 8 * kAttentionRows + 2 * Products::kColumns;
  static constexpr int kFloats = Products::kStages * kBuffer + kWeights + kExtra;

  float* memory;

  __device__ float* Buffer(int stage) const { return memory + stage * kBuffer; }
  __device__ float* Weights() const { return memory + Products::kStages * kBuffer; }
  __device__ float* Extra() const { return Weights() + kWeights; }
};

// The scores of a tile: sums over channels of rows[channel][row0 + r] * columns[channel][column0 +
// c]. Call Start, then Finish. Other shared memory may be used between them.
template <typename Products>
struct ScorePhase {
  using Shared = AttentionShared<Products>;
  using Steps = Pipeline<Products::kStages>;
  static constexpr int kChunk = Products::kScoreChunk;

  Shared shared;
  Map rows;
  Map columns;
  int row0;
  int column0;

  __device__ int Chunks() const { return (rows.channels + kChunk - 1) / kChunk; }
  __device__ __forceinline__ void Load(int chunk, int stage) const {
    float* buffer = shared.Buffer(stage);
    const int channel0 = chunk * kChunk;
    CopyTile<kChunk, kAttentionRows, Products::kRowStride>(rows, channel0, row0, buffer);
    CopyTile<kChunk, Products::kColumns, Products::kColumnStride>(
        columns, channel0, column0, buffer + kChunk * Products::kRowStride);
  }
  __device__ __forceinline__ void Start() const {
    __syncthreads();
    Steps::Start(Chunks(), [this](int chunk, int stage) { Load(chunk, stage); });
  }
  __device__ __forceinline__ void Finish(float (&scores)[Products::kScores]) const {
#pragma unroll
    for (int i = 0; i < Products::kScores; ++i) {
      scores[i] = 0;
    }
    Steps::Run(
        Chunks(), [this](int chunk, int stage) { Load(chunk, stage); },
        [&](int, int stage) {
          const float* buffer = shared.Buffer(stage);
          Products::AddScores(buffer, buffer + kChunk * Products::kRowStride, scores);
        });
  }
};

// sums += sums over the tile's columns of weights * values[channel0 + ...][column0 + ...]. The
// weights of columns beyond the map must be 0.
template <typename Products>
struct SumPhase {
  using Shared = AttentionShared<Products>;
  using Steps = Pipeline<Products::kStages>;
  static constexpr int kChunk = Products::kSumChunk;

  Shared shared;
  Map values;
  int channel0;
  int column0;

  __device__ int Chunks() const {
    const int left = values.positions - column0;
    return ((left < Products::kColumns ? left : Products::kColumns) + kChunk - 1) / kChunk;
  }
  __device__ __forceinline__ void Load(int chunk, int stage) const {
    CopyTile<kSumChannels, kChunk, Products::kValueStride>(
        values, channel0, column0 + chunk * kChunk, shared.Buffer(stage));
  }
  __device__ __forceinline__ void Start() const {
    __syncthreads();
    Steps::Start(Chunks(), [this](int chunk, int stage) { Load(chunk, stage); });
  }
  __device__ __forceinline__ void Finish(float (&sums)[Products::kSums]) const {
    Steps::Run(
        Chunks(), [this](int chunk, int stage) { Load(chunk, stage); },
        [&](int chunk, int stage) {
          Products::AddSums(shared.Weights() + chunk * kChunk * Products::kWeightStride,
                            shared.Buffer(stage), sums);
        });
  }
};

// Writes a thread's scores to the weights.
template <typename Products>
__device__ __forceinline__ void StoreScores(const float (&scores)[Products::kScores],
                                            float* weights) {
#pragma unroll
  for (int i = 0; i < Products::kScores; ++i) {
    weights[Products::ScoreColumn(i) * Products::kWeightStride + Products::ScoreRow(i)] = scores[i];
  }
}

// Writes factors[row] * sums to a map.
template <typename Products>
__device__ __forceinline__ void StoreSums(const float (&sums)[Products::kSums],
                                          const float* factors, const AttentionShape& shape,
                                          const AttentionBlock& block, float* map) {
#pragma unroll
  for (int i = 0; i < Products::kSums; ++i) {
    const int channel = block.channel0 + Products::SumChannel(i);
    const int row = block.row0 + Products::SumRow(i);
    if (channel < shape.channels && row < shape.positions) {
      map[static_cast<int64_t>(channel) * shape.positions + row] =
          factors[Products::SumRow(i)] * sums[i];
    }
  }
}

// How a launch is divided. Columns are split over blocks of threads if the rows alone are too few
// for the GPU. The results of the splits are added up in a fixed order.
struct AttentionPlan {
  int splits;
  int split_columns;
  dim3 grid;
};

AttentionPlan PlanAttention(const AttentionShape& shape, int columns,
                            int blocks_per_multiprocessor);

// Returns whether to use tensor cores, which `kernel` needs.
bool UseTensorCores(AttentionProducts products, const void* kernel);

// Parts of the scratch memory. The forward pass uses maxima, totals and sums, the backward pass
// row_dots and sums. All but row_dots are used only if there are several splits.
struct AttentionScratchParts {
  float* row_dots;  // (images, positions)
  float* maxima;    // (splits, images, positions)
  float* totals;    // (splits, images, positions)
  float* sums;      // (splits, images, channels, positions)
};

AttentionScratchParts PartsOfScratch(const AttentionShape& shape, int splits, float* scratch);

}  // namespace detectron_ext
