// Copies matrices into the order in which block products read them.
//
// A source is row-major, `stride` floats from row to row. A panel is a group of neighbouring
// columns. It is stored [row][column] and padded with zeros to its full width. Panels follow one
// another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels/simd.h"
#include "kernels/transpose.h"

namespace detectron_ext {

inline int64_t DivideUp(int64_t count, int64_t by) { return (count + by - 1) / by; }
inline int64_t RoundUp(int64_t count, int64_t to) { return DivideUp(count, to) * to; }

// Uninitialised floats, aligned to a cache line. A large buffer lies on huge pages if the system
// has them.
class FloatBuffer {
 public:
  explicit FloatBuffer(int64_t size) : data_(Allocate(size)) {}
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }

 private:
  static float* Allocate(int64_t size) {
    constexpr size_t kLine = 64;
    constexpr size_t kHugePage = 2 << 20;
    const size_t bytes = std::max<int64_t>(size, 1) * sizeof(float);
    void* memory = nullptr;
    if (posix_memalign(&memory, bytes < kHugePage ? kLine : kHugePage, bytes) != 0) {
      throw std::bad_alloc();
    }
#ifdef MADV_HUGEPAGE
    if (bytes >= kHugePage) {
      madvise(memory, bytes, MADV_HUGEPAGE);  // only a request: a failure costs speed
    }
#endif
    return static_cast<float*>(memory);
  }
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  std::unique_ptr<float, Free> data_;
};

// Packs columns [0, columns) of rows [first_row, last_row) of `rows` rows into panels of kWidth
// columns: packed[panel][row][kWidth].
template <int kWidth>
void PackPanelRows(const float* __restrict source, int64_t stride, int64_t rows, int64_t columns,
                   int64_t first_row, int64_t last_row, float* __restrict packed) {
  const int64_t whole = columns / kWidth * kWidth;
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* from = source + row * stride;
    float* to = packed + row * kWidth;
    for (int64_t first = 0; first < whole; first += kWidth, to += rows * kWidth) {
      for (int i = 0; i < kWidth; ++i) {
        to[i] = from[first + i];
      }
    }
    for (int64_t i = whole; i < RoundUp(columns, kWidth); ++i) {
      to[i - whole] = i < columns ? from[i] : 0.0f;
    }
  }
}

// Packs all rows.
template <int kWidth>
void PackPanels(const float* source, int64_t stride, int64_t rows, int64_t columns, float* packed) {
  PackPanelRows<kWidth>(source, stride, rows, columns, 0, rows, packed);
}

// Packs the transpose: rows become columns, packed[panel of rows][column][kWidth].
template <int kWidth>
void PackTransposedPanels(const float* source, int64_t stride, int64_t rows, int64_t columns,
                          float* packed) {
  constexpr int kSquare = kWidth % kVectorWidth == 0 ? kVectorWidth : kWidth % 8 == 0 ? 8 : 4;
  static_assert(kWidth % kSquare == 0, "a panel is made of whole squares");
  const int64_t in_squares = columns / kSquare * kSquare;
  for (int64_t first = 0; first < rows; first += kWidth) {
    const int64_t width = std::min<int64_t>(kWidth, rows - first);
    if (width < kWidth) {
      std::fill(packed, packed + columns * kWidth, 0.0f);
    }
    for (int64_t row = 0; row < width;) {
      const float* from = source + (first + row) * stride;
      const bool whole = row + kSquare <= width;
      const int64_t transposed = whole ? in_squares : 0;
      for (int64_t column = 0; column < transposed; column += kSquare) {
        TransposeSquare<kSquare>(from + column, stride, packed + column * kWidth + row, kWidth);
      }
      for (const int64_t end = row + (whole ? kSquare : 1); row < end; ++row, from += stride) {
        for (int64_t column = transposed; column < columns; ++column) {
          packed[column * kWidth + row] = from[column];
        }
      }
    }
    packed += columns * kWidth;
  }
}

}  // namespace detectron_ext
