// Three kernels of one form, one for each gradient. Each computes the scores again, turns them into
// probabilities p[query][key] or score gradients ds[query][key], and multiplies these with a map:
//
//   d_theta[c][query] = scale sum_key   ds[query][key] phi[c][key]
//   d_phi[c][key]     = scale sum_query ds[query][key] theta[c][query]
//   d_g[c][key]       =       sum_query p[query][key]  d_out[c][query]
//   ds = p (dp - row_dots[query]),  dp[query][key] = sum_c d_out[c][query] g[c][key]
#include "kernels/attention_tile_cuda.h"

namespace detectron_ext {
namespace {

// The maps of all images.
struct Maps {
  const float* theta;
  const float* phi;
  const float* g;
  const float* d_out;
  const float* log_sums;  // (images, positions), as row_dots
  const float* row_dots;
};

enum class Wanted { kTheta, kPhi, kG };

// The maps of a kernel: rows and columns of the scores, rows and columns of dp, and the map that
// the weights are multiplied with.
struct Roles {
  const float* score_rows;
  const float* score_columns;
  const float* dp_rows;
  const float* dp_columns;
  const float* values;
};

template <Wanted kWanted>
__device__ Roles RolesOf(const Maps& maps) {
  switch (kWanted) {
    case Wanted::kTheta:
      return {maps.theta, maps.phi, maps.d_out, maps.g, maps.phi};
    case Wanted::kPhi:
      return {maps.phi, maps.theta, maps.g, maps.d_out, maps.theta};
    default:
      return {maps.phi, maps.theta, nullptr, nullptr, maps.d_out};
  }
}

// log_sums and row_dots of the queries of a tile, in shared memory.
struct Queries {
  float* log_sums;
  float* row_dots;
};

// Copies log_sums and row_dots of queries [first, first + count). Writes zeros beyond `positions`.
__device__ __forceinline__ void LoadQueries(const Maps& maps, int image, int positions, int first,
                                            int count, const Queries& queries) {
  const int i = threadIdx.x;
  if (i < count) {
    const bool inside = first + i < positions;
    const int64_t at = static_cast<int64_t>(image) * positions + first + i;
    queries.log_sums[i] = inside ? maps.log_sums[at] : 0.0f;
    queries.row_dots[i] = inside ? maps.row_dots[at] : 0.0f;
  }
}

// Turns scores into p. Pairs of a row and a column beyond the map get 0.
template <typename Products, bool kQueriesAreRows>
__device__ __forceinline__ void Probabilities(int positions, float scale, int row0, int column0,
                                              const Queries& queries,
                                              float (&p)[Products::kScores]) {
#pragma unroll
  for (int i = 0; i < Products::kScores; ++i) {
    const int row = Products::ScoreRow(i);
    const int column = Products::ScoreColumn(i);
    const bool inside = row0 + row < positions && column0 + column < positions;
    const float log_sum = queries.log_sums[kQueriesAreRows ? row : column];
    p[i] = inside ? Exp(p[i] * scale - log_sum) : 0.0f;
  }
}

// Turns p and dp into ds, which it writes to p.
template <typename Products, bool kQueriesAreRows>
__device__ __forceinline__ void Differentiate(const Queries& queries,
                                              const float (&dp)[Products::kScores],
                                              float (&p)[Products::kScores]) {
#pragma unroll
  for (int i = 0; i < Products::kScores; ++i) {
    const int query = kQueriesAreRows ? Products::ScoreRow(i) : Products::ScoreColumn(i);
    p[i] *= dp[i] - queries.row_dots[query];
  }
}

// Computes one of the three gradients, or one split of it (AttentionPlan) in split_sums.
template <typename Products, Wanted kWanted>
__global__ void __launch_bounds__(kCudaThreads, Products::kBlocksPerMultiprocessor)
    GradientKernel(AttentionShape shape, int split_columns, Maps maps, float factor,
                   float* gradient, float* split_sums) {
  if (!Products::kRuns) {
    return;
  }
  constexpr bool kQueriesAreRows = kWanted == Wanted::kTheta;
  DETECTRON_EXT_DYNAMIC_SHARED(memory);
  const AttentionShared<Products> shared{memory};
  float* const factors = shared.Extra();
  const Queries queries{factors + kAttentionRows,
                        factors + 2 * kAttentionRows + Products::kColumns};
  const AttentionBlock block = AttentionBlock::OfThread(shape, split_columns);
  const Roles roles = RolesOf<kWanted>(maps);
  const int image = block.image;
  const int positions = static_cast<int>(shape.positions);
  ScorePhase<Products> score_phase{shared, MapOfImage(shape, roles.score_rows, image),
                                   MapOfImage(shape, roles.score_columns, image), block.row0, 0};
  ScorePhase<Products> dp_phase{shared, MapOfImage(shape, roles.dp_rows, image),
                                MapOfImage(shape, roles.dp_columns, image), block.row0, 0};
  SumPhase<Products> sum_phase{shared, MapOfImage(shape, roles.values, image), block.channel0, 0};
  const bool whole = split_columns >= shape.positions;
  if (threadIdx.x < kAttentionRows) {
    factors[threadIdx.x] = whole ? factor : 1.0f;
  }
  if (kQueriesAreRows) {
    LoadQueries(maps, image, positions, block.row0, kAttentionRows, queries);
  }
  float sums[Products::kSums] = {};
  for (int column0 = block.first_column; column0 < block.last_column;
       column0 += Products::kColumns) {
    float p[Products::kScores];
    score_phase.column0 = dp_phase.column0 = sum_phase.column0 = column0;
    score_phase.Start();
    if (!kQueriesAreRows) {
      LoadQueries(maps, image, positions, column0, Products::kColumns, queries);
    }
    score_phase.Finish(p);
    if (kWanted != Wanted::kG) {
      dp_phase.Start();
    } else {
      sum_phase.Start();
    }
    Probabilities<Products, kQueriesAreRows>(positions, shape.scale, block.row0, column0, queries,
                                             p);
    if (kWanted != Wanted::kG) {
      float dp[Products::kScores];
      dp_phase.Finish(dp);
      sum_phase.Start();
      Differentiate<Products, kQueriesAreRows>(queries, dp, p);
    }
    StoreScores<Products>(p, shared.Weights());
    sum_phase.Finish(sums);
  }
  __syncthreads();
  StoreSums<Products>(
      sums, factors, shape, block,
      (whole ? gradient : split_sums) + block.SplitImage(split_columns) * ImageSize(shape));
}

// gradient = factor * the sum over all splits.
__global__ void __launch_bounds__(kCudaThreads)
    AddSplitsKernel(int64_t size, int splits, const float* split_sums, float factor,
                    float* gradient) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kCudaThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCudaThreads + threadIdx.x; i < size;
       i += threads) {
    float sum = 0;
    for (int s = 0; s < splits; ++s) {
      sum += split_sums[s * size + i];
    }
    gradient[i] = factor * sum;
  }
}

constexpr int kDotPositions = 32;
constexpr int kDotParts = kCudaThreads / kDotPositions;  // threads that share a position

// row_dots[i] = sum over channels of out[c][i] d_out[c][i].
__global__ void __launch_bounds__(kCudaThreads)
    RowDotsKernel(AttentionShape shape, const float* out, const float* d_out, float* row_dots) {
  __shared__ float dots[kDotParts][kDotPositions];
  const int own = threadIdx.x % kDotPositions;
  const int part = threadIdx.x / kDotPositions;
  const int64_t position = static_cast<int64_t>(blockIdx.x) * kDotPositions + own;
  const int64_t start = blockIdx.z * ImageSize(shape) + position;
  float dot = 0;
  if (position < shape.positions) {
#pragma unroll 8
    for (int64_t channel = part; channel < shape.channels; channel += kDotParts) {
      const int64_t at = start + channel * shape.positions;
      dot += out[at] * d_out[at];
    }
  }
  dots[part][own] = dot;
  __syncthreads();
  if (part == 0 && position < shape.positions) {
    for (int p = 1; p < kDotParts; ++p) {
      dot += dots[p][own];
    }
    row_dots[blockIdx.z * shape.positions + position] = dot;
  }
}

const char* const kName = "EmbeddedGaussianAttentionGradient";

// Launches the kernel of one gradient, and the sum over its splits if there are several.
template <typename Products, Wanted kWanted>
void Launch(const AttentionShape& shape, const Maps& maps, const AttentionPlan& plan,
            float* split_sums, float* gradient, cudaStream_t stream) {
  const float factor = kWanted == Wanted::kG ? 1.0f : shape.scale;
  LaunchCudaShared(kName, GradientKernel<Products, kWanted>, plan.grid, kCudaThreads,
                   AttentionShared<Products>::kFloats * sizeof(float), stream, shape,
                   plan.split_columns, maps, factor, gradient, split_sums);
  if (plan.splits > 1) {
    const int64_t size = shape.images * shape.image_size();
    LaunchCuda(kName, AddSplitsKernel, CudaBlocks(size), kCudaThreads, stream, size, plan.splits,
               split_sums, factor, gradient);
  }
}

template <typename Products>
void LaunchAll(const AttentionShape& shape, const Maps& maps, float* scratch, float* d_theta,
               float* d_phi, float* d_g, cudaStream_t stream) {
  const AttentionPlan plan =
      PlanAttention(shape, Products::kColumns, Products::kBlocksPerMultiprocessor);
  float* const sums = PartsOfScratch(shape, plan.splits, scratch).sums;
  Launch<Products, Wanted::kTheta>(shape, maps, plan, sums, d_theta, stream);
  Launch<Products, Wanted::kPhi>(shape, maps, plan, sums, d_phi, stream);
  Launch<Products, Wanted::kG>(shape, maps, plan, sums, d_g, stream);
}

}  // namespace

void AttentionGradientCuda(const AttentionShape& shape, AttentionProducts products,
                           const float* theta, const float* phi, const float* g, const float* out,
                           const float* log_sums, const float* d_out, float* d_theta, float* d_phi,
                           float* d_g, float* scratch, cudaStream_t stream) {
  if (shape.images * shape.image_size() == 0) {
    return;
  }
  float* const row_dots = PartsOfScratch(shape, 1, scratch).row_dots;
  const dim3 grid(static_cast<unsigned>((shape.positions + kDotPositions - 1) / kDotPositions), 1,
                  static_cast<unsigned>(shape.images));
  LaunchCuda(kName, RowDotsKernel, grid, kCudaThreads, stream, shape, out, d_out, row_dots);
  const Maps maps{theta, phi, g, d_out, log_sums, row_dots};
  const void* tensor_kernel =
      reinterpret_cast<const void*>(&GradientKernel<TensorProducts, Wanted::kTheta>);
  if (UseTensorCores(products, tensor_kernel)) {
    LaunchAll<TensorProducts>(shape, maps, scratch, d_theta, d_phi, d_g, stream);
  } else {
    LaunchAll<Float32Products>(shape, maps, scratch, d_theta, d_phi, d_g, stream);
  }
}

}  // namespace detectron_ext
