// The gradients of filter and bias: sums over all positions.
//
// d_filter is a matrix product with a row for each channel of y and a column for each channel of x.
// x is transposed block by block, so that its channels run along vectors. Rows of d_y are not
// copied.
#include <algorithm>
#include <vector>

#include "kernels/block_product.h"
#include "kernels/channel_panels.h"
#include "kernels/channel_planes.h"
#include "kernels/packing.h"
#include "kernels/pointwise_convolution.h"
#include "kernels/simd.h"
#include "kernels/transpose.h"

namespace detectron_ext {
namespace {

constexpr int64_t kDepth = 256;                // the most positions of a block
constexpr int64_t kRowGroup = 2 * kTileRows;   // rows of d_y in memory at a time
constexpr int64_t kColumnPanels = 6;           // the most panels of x in memory at a time
constexpr int64_t kEnoughUnits = 8;            // units of work that keep several threads busy
constexpr int64_t kPartialFloats = 512 << 10;  // the most floats of several partial sums
constexpr int64_t kPrefetchRows = 16;          // rows whose cache lines are prefetched in turn

// Prefetches the first kDepth positions of kPrefetchRows rows, one cache line in each step.
struct PrefetchRows {
  const float* place;
  int64_t stride;
  void operator()(int64_t step) const {
    __builtin_prefetch(place + step % kPrefetchRows * stride + step / kPrefetchRows * kLineFloats,
                       0, 2);
  }
};

// Computes the product of kTileRows rows, kDepth apart, with a panel. Writes it to sums, or adds it
// there if `add` is set.
template <int kVectors>
__attribute__((noinline)) void AddTile(int64_t depth, const float* __restrict a,
                                       const float* __restrict b, bool add,
                                       const PrefetchRows& prefetch, float* __restrict sums) {
  FloatVector sum[kTileRows][kVectors] = {};
  AddProducts<kDepth, 1>(depth, a, b, 0, sum, prefetch);
#pragma GCC unroll 16
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* to = sums + (row * kVectors + v) * kVectorWidth;
      StoreVector(to, add ? LoadVector(to) + sum[row][v] : sum[row][v]);
    }
  }
}

// Copies `rows` channels from `channel` on at positions [first, last) to rows kDepth apart.
// Channels beyond the last one count as zeros.
void GatherRows(const Positions& positions, const Planes<const float>& planes, int64_t first,
                int64_t last, int64_t channel, int64_t rows, float* to) {
  const int64_t present = std::min(rows, planes.channels - channel);
  positions.ForEachRun(first, last, [&](const PositionRun& run) {
    const float* from = planes.At(run, channel);
    for (int64_t i = 0; i < present; ++i) {
      CopyStrided(from + i * planes.plane(), planes.stride_x, run.count, to + i * kDepth + run.at);
    }
  });
  if (present < rows) {
    std::fill(to + present * kDepth, to + rows * kDepth, 0.0f);
  }
}

float Sum(const float* x, int64_t size) {
  FloatVector lanes{};
  int64_t i = 0;
  for (; i + kVectorWidth <= size; i += kVectorWidth) {
    lanes += LoadVector(x + i);
  }
  float sum = 0;
  for (; i < size; ++i) {
    sum += x[i];
  }
  for (int lane = 0; lane < kVectorWidth; ++lane) {
    sum += lanes[lane];
  }
  return sum;
}

// Computes result[r][c], the sum over all positions of rows[r] * columns[c], and row_sums[r], the
// sum of rows[r].
//
// Positions are cut into blocks, and the blocks are divided among partial sums. The number of
// partial sums depends on the shape alone. Columns are divided, too, and so are rows if there would
// be few units of work otherwise.
class PositionProduct {
 public:
  PositionProduct(const Positions& positions, const Planes<const float>& rows,
                  const Planes<const float>& columns)
      : positions_(positions),
        rows_(rows),
        columns_(columns),
        panels_(columns.channels),
        padded_rows_(RoundUp(rows.channels, kRowGroup)),
        blocks_(DivideUp(positions.count, kDepth)),
        block_(RoundUp(DivideUp(positions.count, blocks_), kVectorWidth)),
        size_(padded_rows_ * panels_.vectors * kVectorWidth),
        splits_(std::max<int64_t>(1, std::min({kEnoughUnits, blocks_, kPartialFloats / size_}))),
        column_parts_(DivideUp(panels_.count, kColumnPanels)),
        row_parts_(std::max<int64_t>(
            1, std::min(padded_rows_ / kRowGroup, kEnoughUnits / (splits_ * column_parts_)))),
        partial_(splits_ * size_),
        partial_row_sums_(splits_ * padded_rows_) {}

  // row_sums may be null.
  void Run(float* result, float* row_sums, ParallelFor parallel_for) {
    parallel_for(splits_ * column_parts_ * row_parts_, [&](int64_t first, int64_t last) {
      Workspace workspace;
      for (int64_t unit = first; unit < last; ++unit) {
        SumUnit(UnitAt(unit), row_sums != nullptr, workspace);
      }
    });
    ForEachBlock(parallel_for, rows_.channels, kRowGroup,
                 [&](int64_t begin, int64_t end) { AddPartials(begin, end, result); });
    for (int64_t r = 0; row_sums != nullptr && r < rows_.channels; ++r) {
      row_sums[r] = 0;
      for (int64_t split = 0; split < splits_; ++split) {
        row_sums[r] += partial_row_sums_.data()[split * padded_rows_ + r];
      }
    }
  }

 private:
  struct Workspace {
    FloatBuffer right{kColumnPanels * kTileColumns * kDepth};  // [panel][position][column]
    FloatBuffer square{kVectorWidth * kDepth};                 // [column][position]
    FloatBuffer left{kRowGroup * kDepth};                      // [row][position]
  };
  // A part of the product: the blocks of one partial sum, and ranges of panels and of rows.
  struct Unit {
    int64_t split;
    int64_t block_begin, block_end;
    int64_t panel_begin, panel_end;
    int64_t row_begin, row_end;
  };

  Unit UnitAt(int64_t index) const {
    const int64_t row_part = index % row_parts_;
    const int64_t column_part = index / row_parts_ % column_parts_;
    const int64_t split = index / (row_parts_ * column_parts_);
    const int64_t groups = padded_rows_ / kRowGroup;
    return {split,
            blocks_ * split / splits_,
            blocks_ * (split + 1) / splits_,
            panels_.count * column_part / column_parts_,
            panels_.count * (column_part + 1) / column_parts_,
            groups * row_part / row_parts_ * kRowGroup,
            groups * (row_part + 1) / row_parts_ * kRowGroup};
  }

  void SumUnit(const Unit& unit, bool with_row_sums, Workspace& workspace) {
    for (int64_t block = unit.block_begin; block < unit.block_end; ++block) {
      const int64_t begin = std::min(positions_.count, block * block_);
      const int64_t end = std::min(positions_.count, begin + block_);
      const bool add = block > unit.block_begin;
      PackColumns(unit, begin, end, workspace);
      for (int64_t row = unit.row_begin; row < unit.row_end; row += kRowGroup) {
        GatherRows(positions_, rows_, begin, end, row, kRowGroup, workspace.left.data());
        if (with_row_sums && unit.panel_begin == 0) {
          AddRowSums(unit.split, row, end - begin, add, workspace.left.data());
        }
        MultiplyRows(unit, row, begin, end, add, workspace);
      }
    }
  }

  // Packs a unit's columns at positions [begin, end).
  void PackColumns(const Unit& unit, int64_t begin, int64_t end, Workspace& workspace) const {
    float* to = workspace.right.data();
    for (int64_t panel = unit.panel_begin; panel < unit.panel_end; ++panel) {
      const int64_t width = panels_.width(panel);
      for (int64_t v = 0; v < width; v += kVectorWidth) {
        GatherRows(positions_, columns_, begin, end, panels_.first(panel) + v, kVectorWidth,
                   workspace.square.data());
        for (int64_t k = 0; k < end - begin; k += kVectorWidth) {
          TransposeSquare<kVectorWidth>(workspace.square.data() + k, kDepth, to + k * width + v,
                                        width);
        }
      }
      to += kDepth * width;
    }
  }

  // Multiplies a group of rows with all panels of a unit. Meanwhile the first product prefetches
  // the next group, and the other products prefetch columns of the next block.
  void MultiplyRows(const Unit& unit, int64_t row, int64_t begin, int64_t end, bool add,
                    const Workspace& workspace) {
    const int64_t columns = panels_.first(unit.panel_end) - panels_.first(unit.panel_begin);
    const int64_t calls = (unit.panel_end - unit.panel_begin) * 2 - 1;
    int64_t column = panels_.first(unit.panel_begin) +
        (row - unit.row_begin) / kRowGroup * calls * kPrefetchRows;
    const float* right = workspace.right.data();
    for (int64_t panel = unit.panel_begin; panel < unit.panel_end; ++panel) {
      const int64_t width = panels_.width(panel);
      for (int64_t tile = 0; tile < kRowGroup; tile += kTileRows) {
        PrefetchRows prefetch{right, 0};
        if (panel == unit.panel_begin && tile == 0) {
          if (row + kRowGroup < unit.row_end) {
            prefetch = {rows_.At(positions_.RunAt(begin, 1), row + kRowGroup), rows_.plane()};
          }
        } else {
          if (column < panels_.first(unit.panel_begin) + columns && end < positions_.count) {
            prefetch = {columns_.At(positions_.RunAt(end, 1), column), columns_.plane()};
          }
          column += kPrefetchRows;
        }
        Multiply(width, end - begin, workspace.left.data() + tile * kDepth, right, add, prefetch,
                 partial_.data() + unit.split * size_ + padded_rows_ * panels_.first(panel) +
                     (row + tile) * width);
      }
      right += kDepth * width;
    }
  }

  static void Multiply(int64_t width, int64_t depth, const float* left, const float* right,
                       bool add, const PrefetchRows& prefetch, float* sums) {
    switch (width / kVectorWidth) {
      case 1:
        return AddTile<1>(depth, left, right, add, prefetch, sums);
      case 2:
        return AddTile<2>(depth, left, right, add, prefetch, sums);
      default:
        return AddTile<3>(depth, left, right, add, prefetch, sums);
    }
  }

  // Adds to a partial sum of each row of a group, or starts it if `add` is not set.
  void AddRowSums(int64_t split, int64_t row, int64_t size, bool add, const float* left) {
    float* to = partial_row_sums_.data() + split * padded_rows_ + row;
    for (int64_t i = 0; i < kRowGroup; ++i) {
      to[i] = (add ? to[i] : 0.0f) + Sum(left + i * kDepth, size);
    }
  }

  // Writes result[r] for rows [begin, end). Partial sums are added in ascending order.
  void AddPartials(int64_t begin, int64_t end, float* result) const {
    for (int64_t panel = 0; panel < panels_.count; ++panel) {
      const int64_t width = panels_.width(panel);
      const int64_t filled = panels_.filled(panel);
      for (int64_t r = begin; r < end; ++r) {
        const float* from = partial_.data() + padded_rows_ * panels_.first(panel) + r * width;
        float* to = result + r * columns_.channels + panels_.first(panel);
        std::copy(from, from + filled, to);
        for (int64_t split = 1; split < splits_; ++split) {
          for (int64_t i = 0; i < filled; ++i) {
            to[i] += from[split * size_ + i];
          }
        }
      }
    }
  }

  const Positions positions_;
  const Planes<const float> rows_;
  const Planes<const float> columns_;
  const VectorPanels panels_;
  const int64_t padded_rows_;
  const int64_t blocks_;
  const int64_t block_;
  const int64_t size_;
  const int64_t splits_;
  const int64_t column_parts_;
  const int64_t row_parts_;
  FloatBuffer partial_;           // [split][panel][row][column]
  FloatBuffer partial_row_sums_;  // [split][row]
};

}  // namespace

void PointwiseFilterGradient(const PointwiseShape& given, const float* x, const float* d_y,
                             float* d_filter, float* d_bias, ParallelFor parallel_for) {
  const PointwiseShape shape = Flattened(given);
  const Positions positions(shape);
  PositionProduct(positions, OutputPlanes(shape, d_y), InputPlanes(shape, x))
      .Run(d_filter, d_bias, parallel_for);
}

}  // namespace detectron_ext
