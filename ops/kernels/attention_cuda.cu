// How attention is launched: tensor cores or not, and how the work is divided.
#include "kernels/attention_tile_cuda.h"

namespace detectron_ext {
namespace {

constexpr int64_t kMaxSplits = 16;
// The cost of one more split, whose results are written, read and added up. The unit is the time of
// a tile of a block.
constexpr double kSplitCost = 0.25;

int DeviceAttribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  CheckCuda(cudaGetDevice(&device), "cudaGetDevice");
  CheckCuda(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

// Takes the number of splits with the least estimated time: the number of rounds in which the GPU
// runs all blocks, times the tiles of a block, plus the cost of the splits.
AttentionPlan PlanAttention(const AttentionShape& shape, int columns,
                            int blocks_per_multiprocessor) {
  const int64_t row_blocks = DivideUp(shape.positions, kAttentionRows);
  const int64_t channel_blocks = DivideUp(shape.channels, kSumChannels);
  const int64_t blocks = row_blocks * channel_blocks * shape.images;
  const int64_t at_once =
      blocks_per_multiprocessor * DeviceAttribute(cudaDevAttrMultiProcessorCount);
  const int64_t tiles = DivideUp(shape.positions, columns);
  int64_t best_tiles = tiles;
  double best_cost = 0;
  for (int64_t splits = 1; splits <= kMaxSplits && splits <= tiles; ++splits) {
    const int64_t own_tiles = DivideUp(tiles, splits);
    const double cost = static_cast<double>(DivideUp(blocks * splits, at_once)) * own_tiles +
        (splits > 1 ? kSplitCost * splits : 0.0);
    if (splits == 1 || cost < best_cost) {
      best_tiles = own_tiles;
      best_cost = cost;
    }
  }
  const int64_t splits = DivideUp(tiles, best_tiles);
  return {static_cast<int>(splits), static_cast<int>(best_tiles * columns),
          dim3(static_cast<unsigned>(row_blocks * splits), static_cast<unsigned>(channel_blocks),
               static_cast<unsigned>(shape.images))};
}

bool UseTensorCores(AttentionProducts products, const void* kernel) {
  if (products == AttentionProducts::kFloat32) {
    return false;
  }
  // Code compiled for an older GPU leaves the kernel empty.
  cudaFuncAttributes attributes;
  CheckCuda(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  const bool possible = attributes.ptxVersion >= 80;
  const int major = DeviceAttribute(cudaDevAttrComputeCapabilityMajor);
  if (products == AttentionProducts::kTensorCores) {
    if (!possible || major < 8) {
      throw std::runtime_error("tensor cores for float32 need a GPU of compute capability 8.0");
    }
    return true;
  }
  // On other GPUs the tensor cores are at most twice as fast as the float32 units. That is too
  // slow, because each product takes three products of tensor cores.
  const int minor = DeviceAttribute(cudaDevAttrComputeCapabilityMinor);
  return possible && ((major == 8 && minor == 0) || major == 9 || major == 10);
}

AttentionScratchParts PartsOfScratch(const AttentionShape& shape, int splits, float* scratch) {
  const int64_t rows = shape.images * shape.positions;
  float* const maxima = scratch + rows;
  return {scratch, maxima, maxima + splits * rows, maxima + 2 * splits * rows};
}

int64_t AttentionScratch(const AttentionShape& shape) {
  if (shape.images * shape.image_size() == 0) {
    return 0;
  }
  const int splits = std::max(
      PlanAttention(shape, Float32Products::kColumns, Float32Products::kBlocksPerMultiprocessor)
          .splits,
      PlanAttention(shape, TensorProducts::kColumns, TensorProducts::kBlocksPerMultiprocessor)
          .splits);
  const int64_t rows = shape.images * shape.positions;
  return splits == 1 ? rows : rows * (1 + 2 * splits + splits * shape.channels);
}

}  // namespace detectron_ext
