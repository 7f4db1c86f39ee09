// A block of threads owns 32 rows (positions) of its output and walks over all columns, 64 at a
// time: it computes a tile of scores from chunks of channels in shared memory, turns it into
// weights in shared memory, and adds the weights' product with another map to sums in registers.
// Forward rows are queries. Backward two kernels own queries (d_theta) and keys (d_phi, d_g), so
// that every sum has one owner and one order; each computes the scores again.
#include <math.h>

#include "kernels/attention_cuda.h"
#include "kernels/formulas.h"

namespace detectron_ext {
namespace {

constexpr int kRows = 32;         // of a tile
constexpr int kColumns = 64;      // of a tile
constexpr int kChunk = 16;        // channels or columns of a product held in shared memory
constexpr int kChannels = 256;    // channels of the output that a block of threads owns
constexpr int kPadded = kChannels + 4;  // spreads the columns of a transposed chunk over banks
constexpr int kParts = kCudaThreads / kRows;  // threads that share a row of weights

// A thread's scores: rows 2 r, 2 r + 1 and columns 4 c ... 4 c + 3 of a tile, r = thread / 16,
// c = thread % 16.
constexpr int kScoreRows = 2;
constexpr int kScoreColumns = 4;
// A thread's sums: rows 4 r ... 4 r + 3, r = thread / 32, and channels 4 c ... 4 c + 3 and
// 128 + 4 c ... 128 + 4 c + 3, c = thread % 32.
constexpr int kSumRows = 4;
constexpr int kSumChannels = 8;

// A map (channels, positions) of one image.
struct Map {
  const float* data;
  int64_t channels;
  int64_t positions;

  __device__ float At(int64_t channel, int64_t position) const {
    return channel < channels && position < positions ? data[channel * positions + position]
                                                      : 0.0f;
  }
};

// What a block of threads shares.
struct Shared {
  float rows[kChunk * kRows];          // [channel][row]
  float columns[kChunk * kColumns];    // [channel][column]
  float transposed[kChunk * kPadded];  // [column][channel]
};

// scores[r][c] = sum over channels of rows[channel][row0 + ...] * columns[channel][column0 + ...].
__device__ void Scores(const Map& rows, int64_t row0, const Map& columns, int64_t column0,
                       Shared* shared, float (&scores)[kScoreRows][kScoreColumns]) {
  const int thread = threadIdx.x;
  const int row = thread / 16 * kScoreRows;
  const int column = thread % 16 * kScoreColumns;
  for (int r = 0; r < kScoreRows; ++r) {
    for (int c = 0; c < kScoreColumns; ++c) {
      scores[r][c] = 0;
    }
  }
  for (int64_t channel0 = 0; channel0 < rows.channels; channel0 += kChunk) {
    __syncthreads();
    for (int i = thread; i < kChunk * kRows; i += kCudaThreads) {
      shared->rows[i] = rows.At(channel0 + i / kRows, row0 + i % kRows);
    }
    for (int i = thread; i < kChunk * kColumns; i += kCudaThreads) {
      shared->columns[i] = columns.At(channel0 + i / kColumns, column0 + i % kColumns);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kChunk; ++k) {
      const float* left = shared->rows + k * kRows + row;
      const float* right = shared->columns + k * kColumns + column;
#pragma unroll
      for (int r = 0; r < kScoreRows; ++r) {
#pragma unroll
        for (int c = 0; c < kScoreColumns; ++c) {
          scores[r][c] += left[r] * right[c];
        }
      }
    }
  }
}

// Writes a thread's scores to weights[column][row].
__device__ void StoreScores(const float (&scores)[kScoreRows][kScoreColumns], float* weights) {
  const int row = threadIdx.x / 16 * kScoreRows;
  const int column = threadIdx.x % 16 * kScoreColumns;
  for (int c = 0; c < kScoreColumns; ++c) {
    for (int r = 0; r < kScoreRows; ++r) {
      weights[(column + c) * kRows + row + r] = scores[r][c];
    }
  }
}

__device__ int SumRow() { return threadIdx.x / 32 * kSumRows; }

__device__ int SumChannel(int k) { return threadIdx.x % 32 * 4 + k / 4 * 128 + k % 4; }

// sums += sum over columns of weights[column][row] * map[channel0 + channel][column0 + column].
__device__ void AddProduct(const float* weights, const Map& map, int64_t channel0,
                           int64_t column0, Shared* shared,
                           float (&sums)[kSumRows][kSumChannels]) {
  const int thread = threadIdx.x;
  for (int first = 0; first < kColumns; first += kChunk) {
    __syncthreads();
    for (int i = thread; i < kChunk * kChannels; i += kCudaThreads) {
      shared->transposed[i % kChunk * kPadded + i / kChunk] =
          map.At(channel0 + i / kChunk, column0 + first + i % kChunk);
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < kChunk; ++k) {
      const float* left = weights + (first + k) * kRows + SumRow();
      const float* right = shared->transposed + k * kPadded;
#pragma unroll
      for (int c = 0; c < kSumChannels; ++c) {
        const float value = right[SumChannel(c)];
#pragma unroll
        for (int r = 0; r < kSumRows; ++r) {
          sums[r][c] += left[r] * value;
        }
      }
    }
  }
}

// Writes factor * sums to out[channel0 + channel][row0 + row].
__device__ void StoreSums(const float (&sums)[kSumRows][kSumChannels], const float* factors,
                          int64_t channels, int64_t positions, int64_t channel0, int64_t row0,
                          float* out) {
  for (int c = 0; c < kSumChannels; ++c) {
    const int64_t channel = channel0 + SumChannel(c);
    for (int r = 0; r < kSumRows; ++r) {
      const int64_t row = row0 + SumRow() + r;
      if (channel < channels && row < positions) {
        out[channel * positions + row] = factors[SumRow() + r] * sums[r][c];
      }
    }
  }
}

// The softmax of the rows of tiles, seen one tile after another.
struct Softmax {
  float maximum[kRows];
  float total[kRows];
  float factor[kRows];           // by which earlier sums shrink
  float partial[kParts * kRows];  // [part][row]
};

// Turns scores in weights[column][row] into exp(score - the row's maximum so far); columns from
// `count` on get 0.
__device__ void Exponentiate(int count, float* weights, Softmax* softmax) {
  const int row = threadIdx.x % kRows;
  const int part = threadIdx.x / kRows;
  const int first = part * (kColumns / kParts);
  const int last = first + kColumns / kParts;
  __syncthreads();
  float maximum = -INFINITY;
  for (int column = first; column < last && column < count; ++column) {
    maximum = fmaxf(maximum, weights[column * kRows + row]);
  }
  softmax->partial[part * kRows + row] = maximum;
  __syncthreads();
  const float before = softmax->maximum[row];
  maximum = before;
  for (int p = 0; p < kParts; ++p) {
    maximum = fmaxf(maximum, softmax->partial[p * kRows + row]);
  }
  __syncthreads();
  float sum = 0;
  for (int column = first; column < last; ++column) {
    float* weight = weights + column * kRows + row;
    *weight = column < count ? Exp(*weight - maximum) : 0.0f;
    sum += *weight;
  }
  softmax->partial[part * kRows + row] = sum;
  __syncthreads();
  if (part == 0) {
    softmax->factor[row] = Exp(before - maximum);
    softmax->maximum[row] = maximum;
    float total = softmax->total[row] * softmax->factor[row];
    for (int p = 0; p < kParts; ++p) {
      total += softmax->partial[p * kRows + row];
    }
    softmax->total[row] = total;
  }
  __syncthreads();
}

// The maps of all images; a block of threads takes its image's.
struct Maps {
  const float* theta;
  const float* phi;
  const float* g;
  const float* d_out;
  const float* log_sums;
  const float* row_dots;
};

__device__ Map MapOfImage(const AttentionShape& shape, const float* data) {
  return {data + blockIdx.z * shape.channels * shape.positions, shape.channels, shape.positions};
}

__device__ int TileColumns(const AttentionShape& shape, int64_t column0) {
  const int64_t left = shape.positions - column0;
  return static_cast<int>(left < kColumns ? left : kColumns);
}

__device__ void Clear(float (&sums)[kSumRows][kSumChannels]) {
  for (int r = 0; r < kSumRows; ++r) {
    for (int c = 0; c < kSumChannels; ++c) {
      sums[r][c] = 0;
    }
  }
}

__global__ void __launch_bounds__(kCudaThreads)
    AttentionKernel(AttentionShape shape, Maps maps, float* out, float* log_sums) {
  __shared__ Shared shared;
  __shared__ Softmax softmax;
  __shared__ float weights[kColumns * kRows];
  const int64_t row0 = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t channel0 = static_cast<int64_t>(blockIdx.y) * kChannels;
  const Map theta = MapOfImage(shape, maps.theta);
  const Map phi = MapOfImage(shape, maps.phi);
  const Map g = MapOfImage(shape, maps.g);
  const int thread = threadIdx.x;
  if (thread < kRows) {
    softmax.maximum[thread] = -INFINITY;
    softmax.total[thread] = 0;
  }
  float sums[kSumRows][kSumChannels];
  Clear(sums);
  for (int64_t column0 = 0; column0 < shape.positions; column0 += kColumns) {
    float scores[kScoreRows][kScoreColumns];
    Scores(theta, row0, phi, column0, &shared, scores);
    for (int r = 0; r < kScoreRows; ++r) {
      for (int c = 0; c < kScoreColumns; ++c) {
        scores[r][c] *= shape.scale;
      }
    }
    StoreScores(scores, weights);
    Exponentiate(TileColumns(shape, column0), weights, &softmax);
    if (out == nullptr) {
      continue;
    }
    for (int r = 0; r < kSumRows; ++r) {
      const float factor = softmax.factor[SumRow() + r];
      for (int c = 0; c < kSumChannels; ++c) {
        sums[r][c] *= factor;
      }
    }
    AddProduct(weights, g, channel0, column0, &shared, sums);
  }
  __syncthreads();
  if (thread < kRows) {
    if (blockIdx.y == 0 && row0 + thread < shape.positions) {
      log_sums[blockIdx.z * shape.positions + row0 + thread] =
          softmax.maximum[thread] + logf(softmax.total[thread]);
    }
    softmax.factor[thread] = 1.0f / softmax.total[thread];
  }
  __syncthreads();
  if (out != nullptr) {
    StoreSums(sums, softmax.factor, shape.channels, shape.positions, channel0, row0,
              out + blockIdx.z * shape.channels * shape.positions);
  }
}

// row_dots[i] = sum over channels of out[c][i] d_out[c][i].
__global__ void __launch_bounds__(kCudaThreads)
    RowDotsKernel(AttentionShape shape, const float* out, const float* d_out, float* row_dots) {
  const int64_t position = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x;
  const Map left = MapOfImage(shape, out);
  const Map right = MapOfImage(shape, d_out);
  float dot = 0;
  for (int64_t channel = 0; channel < shape.channels; ++channel) {
    dot += left.At(channel, position) * right.At(channel, position);
  }
  if (position < shape.positions) {
    row_dots[blockIdx.z * shape.positions + position] = dot;
  }
}

// Turns a thread's scores into probabilities and its gradients of probabilities into gradients of
// scores. query(r, c) is the position that attends; pairs out of range get 0.
struct QueriesAreRows {
  __device__ static int64_t Query(int64_t row, int64_t) { return row; }
};
struct QueriesAreColumns {
  __device__ static int64_t Query(int64_t, int64_t column) { return column; }
};

template <typename Queries>
__device__ void Differentiate(const AttentionShape& shape, const Maps& maps, int64_t row0,
                              int64_t column0, float (&p)[kScoreRows][kScoreColumns],
                              float (&ds)[kScoreRows][kScoreColumns]) {
  const int64_t image = blockIdx.z * shape.positions;
  for (int r = 0; r < kScoreRows; ++r) {
    for (int c = 0; c < kScoreColumns; ++c) {
      const int64_t row = row0 + threadIdx.x / 16 * kScoreRows + r;
      const int64_t column = column0 + threadIdx.x % 16 * kScoreColumns + c;
      if (row >= shape.positions || column >= shape.positions) {
        p[r][c] = ds[r][c] = 0;
        continue;
      }
      const int64_t query = image + Queries::Query(row, column);
      p[r][c] = Exp(p[r][c] * shape.scale - maps.log_sums[query]);
      ds[r][c] = p[r][c] * (ds[r][c] - maps.row_dots[query]);
    }
  }
}

__global__ void __launch_bounds__(kCudaThreads)
    QueryGradientKernel(AttentionShape shape, Maps maps, float* d_theta) {
  __shared__ Shared shared;
  __shared__ float weights[kColumns * kRows];
  __shared__ float factors[kRows];
  const int64_t row0 = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t channel0 = static_cast<int64_t>(blockIdx.y) * kChannels;
  const Map phi = MapOfImage(shape, maps.phi);
  if (threadIdx.x < kRows) {
    factors[threadIdx.x] = shape.scale;
  }
  float sums[kSumRows][kSumChannels];
  Clear(sums);
  for (int64_t column0 = 0; column0 < shape.positions; column0 += kColumns) {
    float p[kScoreRows][kScoreColumns];
    float ds[kScoreRows][kScoreColumns];
    Scores(MapOfImage(shape, maps.theta), row0, phi, column0, &shared, p);
    Scores(MapOfImage(shape, maps.d_out), row0, MapOfImage(shape, maps.g), column0, &shared, ds);
    Differentiate<QueriesAreRows>(shape, maps, row0, column0, p, ds);
    StoreScores(ds, weights);
    AddProduct(weights, phi, channel0, column0, &shared, sums);
  }
  StoreSums(sums, factors, shape.channels, shape.positions, channel0, row0,
            d_theta + blockIdx.z * shape.channels * shape.positions);
}

__global__ void __launch_bounds__(kCudaThreads)
    KeyGradientKernel(AttentionShape shape, Maps maps, float* d_phi, float* d_g) {
  __shared__ Shared shared;
  __shared__ float score_weights[kColumns * kRows];
  __shared__ float probabilities[kColumns * kRows];
  __shared__ float factors[2 * kRows];
  const int64_t row0 = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t channel0 = static_cast<int64_t>(blockIdx.y) * kChannels;
  const int64_t image = blockIdx.z * shape.channels * shape.positions;
  const Map theta = MapOfImage(shape, maps.theta);
  const Map d_out = MapOfImage(shape, maps.d_out);
  if (threadIdx.x < kRows) {
    factors[threadIdx.x] = shape.scale;
    factors[kRows + threadIdx.x] = 1.0f;
  }
  float phi_sums[kSumRows][kSumChannels];
  float g_sums[kSumRows][kSumChannels];
  Clear(phi_sums);
  Clear(g_sums);
  for (int64_t column0 = 0; column0 < shape.positions; column0 += kColumns) {
    float p[kScoreRows][kScoreColumns];
    float ds[kScoreRows][kScoreColumns];
    Scores(MapOfImage(shape, maps.phi), row0, theta, column0, &shared, p);
    Scores(MapOfImage(shape, maps.g), row0, d_out, column0, &shared, ds);
    Differentiate<QueriesAreColumns>(shape, maps, row0, column0, p, ds);
    StoreScores(ds, score_weights);
    StoreScores(p, probabilities);
    AddProduct(score_weights, theta, channel0, column0, &shared, phi_sums);
    AddProduct(probabilities, d_out, channel0, column0, &shared, g_sums);
  }
  StoreSums(phi_sums, factors, shape.channels, shape.positions, channel0, row0, d_phi + image);
  StoreSums(g_sums, factors + kRows, shape.channels, shape.positions, channel0, row0,
            d_g + image);
}

dim3 RowGrid(const AttentionShape& shape, int64_t rows, int64_t channels) {
  return dim3(static_cast<unsigned>((shape.positions + rows - 1) / rows),
              static_cast<unsigned>((shape.channels + channels - 1) / channels),
              static_cast<unsigned>(shape.images));
}

}  // namespace

void AttentionCuda(const AttentionShape& shape, const float* theta, const float* phi,
                   const float* g, float* out, float* log_sums, cudaStream_t stream) {
  if (shape.images * shape.image_size() == 0) {
    return;
  }
  const Maps maps{theta, phi, g, nullptr, nullptr, nullptr};
  LaunchCuda("EmbeddedGaussianAttention", AttentionKernel,
             RowGrid(shape, kRows, out == nullptr ? shape.channels : kChannels), kCudaThreads,
             stream, shape, maps, out, log_sums);
}

void AttentionGradientCuda(const AttentionShape& shape, const float* theta, const float* phi,
                           const float* g, const float* out, const float* log_sums,
                           const float* d_out, float* d_theta, float* d_phi, float* d_g,
                           float* row_dots, cudaStream_t stream) {
  if (shape.images * shape.image_size() == 0) {
    return;
  }
  const char* const name = "EmbeddedGaussianAttentionGradient";
  const Maps maps{theta, phi, g, d_out, log_sums, row_dots};
  const dim3 grid = RowGrid(shape, kRows, kChannels);
  LaunchCuda(name, RowDotsKernel, RowGrid(shape, kCudaThreads, shape.channels), kCudaThreads,
             stream, shape, out, d_out, row_dots);
  LaunchCuda(name, QueryGradientKernel, grid, kCudaThreads, stream, shape, maps, d_theta);
  LaunchCuda(name, KeyGradientKernel, grid, kCudaThreads, stream, shape, maps, d_phi, d_g);
}

}  // namespace detectron_ext
