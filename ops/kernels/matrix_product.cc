#include "kernels/matrix_product.h"

#include <algorithm>

#include "kernels/block_product.h"
#include "kernels/channel_panels.h"
#include "kernels/packing.h"

namespace detectron_ext {
namespace {

// The depth that is packed and multiplied at a time: a panel of columns (96 KB with AVX-512) and
// kRowPanels panels of rows (512 KB) stay in the second-level cache.
constexpr int64_t kDepthBlock = 512;
// Number of panels of rows that a task multiplies with one panel of columns.
constexpr int64_t kRowPanels = 32;
constexpr int64_t kSumColumns = 64;  // columns of one block of work of SumRows

// Packs panel number `panel` at depths [first, first + count): packed[depth][kWidth]. The `extent`
// rows of the left factor, or columns of the right one, are cut into panels of kWidth. along_rows:
// whether these rows or columns are rows of the matrix in memory.
template <int kWidth>
void PackPanel(const Factor& factor, bool along_rows, int64_t panel, int64_t extent, int64_t first,
               int64_t count, float* packed) {
  const int64_t start = panel * kWidth;
  const int64_t width = std::min<int64_t>(kWidth, extent - start);
  if (along_rows) {
    const float* const source = factor.data + start * factor.stride + first;
    PackTransposedPanels<kWidth>(source, factor.stride, width, count, packed);
  } else {
    const float* const source = factor.data + first * factor.stride + start;
    PackPanels<kWidth>(source, factor.stride, count, width, packed);
  }
}

// Fetches the places in c that a tile's product goes to, whose rows lie in different pages.
void PrefetchTile(const float* c, int64_t rows, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row, c += stride) {
    for (int64_t i = 0; i < kTileColumns; i += kLineFloats) {
      __builtin_prefetch(c + i, 1);
    }
  }
}

// Writes a tile's product to its place in c. At the first depth c starts as `bias` or zero.
void StoreTile(const float* tile, int64_t rows, int64_t width, int64_t stride, bool first,
               const float* bias, float* c) {
  const float zeros[kTileColumns] = {};
  const float* const start = bias != nullptr ? bias : zeros;
  for (int64_t row = 0; row < rows; ++row, tile += kTileColumns, c += stride) {
    const float* const before = first ? start : c;
    int64_t i = 0;
    for (; i + kVectorWidth <= width; i += kVectorWidth) {
      StoreVector(c + i, LoadVector(before + i) + LoadVector(tile + i));
    }
    for (; i < width; ++i) {
      c[i] = before[i] + tile[i];
    }
  }
}

}  // namespace

void MultiplyMatrices(const Factor& a, const Factor& b, int64_t rows, int64_t columns,
                      int64_t depth, const float* bias, float* c, ParallelFor parallel_for) {
  const int64_t row_panels = DivideUp(rows, kTileRows);
  const int64_t column_panels = DivideUp(columns, kTileColumns);
  const int64_t block = std::min(depth, kDepthBlock);
  FloatBuffer left(row_panels * kTileRows * block);
  FloatBuffer right(column_panels * kTileColumns * block);
  const int64_t chunks = DivideUp(row_panels, kRowPanels);
  // A depth of 0 still writes the bias.
  for (int64_t first = 0; first == 0 || first < depth; first += kDepthBlock) {
    const int64_t count = std::min(kDepthBlock, depth - first);
    ForEachBlock(parallel_for, row_panels, 1, [&](int64_t panel, int64_t) {
      float* const packed = left.data() + panel * kTileRows * count;
      PackPanel<kTileRows>(a, !a.transposed, panel, rows, first, count, packed);
    });
    ForEachBlock(parallel_for, column_panels, 1, [&](int64_t panel, int64_t) {
      float* const packed = right.data() + panel * kTileColumns * count;
      PackPanel<kTileColumns>(b, b.transposed, panel, columns, first, count, packed);
    });
    ForEachBlock(parallel_for, chunks * column_panels, 1, [&](int64_t task, int64_t) {
      const int64_t column = task % column_panels * kTileColumns;
      const int64_t width = std::min<int64_t>(kTileColumns, columns - column);
      const int64_t begin = task / column_panels * kRowPanels;
      float tile[kTileRows * kTileColumns];
      for (int64_t panel = begin; panel < std::min(begin + kRowPanels, row_panels); ++panel) {
        const int64_t row = panel * kTileRows;
        const int64_t height = std::min<int64_t>(kTileRows, rows - row);
        float* const place = c + row * columns + column;
        PrefetchTile(place, height, columns);
        MultiplyTile<kTileRows, kTileVectors, 1, kTileRows, false>(
            count, left.data() + panel * kTileRows * count, right.data() + column * count, tile);
        StoreTile(tile, height, width, columns, first == 0,
                  bias != nullptr ? bias + column : nullptr, place);
      }
    });
  }
}

void SumRows(const float* x, int64_t rows, int64_t columns, float* sums, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, columns, kSumColumns, [=](int64_t begin, int64_t end) {
    std::fill(sums + begin, sums + end, 0.0f);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = begin; i < end; ++i) {
        sums[i] += x[row * columns + i];
      }
    }
  });
}

}  // namespace detectron_ext
