// Products of matrices on all threads, for fully connected layers.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

// A factor of a product: row-major, `stride` floats from row to row. With `transposed` the factor
// is the transpose of the matrix in memory.
struct Factor {
  const float* data;
  int64_t stride;
  bool transposed;
};

// Writes c = a b, plus `bias` (one number for each column) unless it is null.
//
// a is rows x depth, b depth x columns and c rows x columns, row-major without gaps.
void MultiplyMatrices(const Factor& a, const Factor& b, int64_t rows, int64_t columns,
                      int64_t depth, const float* bias, float* c, ParallelFor parallel_for);

// Writes the sum of each column of x (rows x columns, row-major without gaps).
void SumRows(const float* x, int64_t rows, int64_t columns, float* sums, ParallelFor parallel_for);

}  // namespace detectron_ext
