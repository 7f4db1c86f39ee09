// Copies of some rows of a plane with zeros around them, so that vector code needs no special case
// at the borders.
//
// At stride 2 the even elements of a row are stored first, then the odd ones. So the elements under
// one tap of a filter in consecutive windows are neighbours.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/packing.h"
#include "kernels/simd.h"

namespace detectron_ext {

typedef int IndexVector __attribute__((vector_size(kVectorWidth * sizeof(int))));

// Returns elements kFirst, kFirst + 2, ... of two consecutive vectors.
template <int kFirst>
inline FloatVector EveryOther(FloatVector low, FloatVector high) {
  IndexVector places;
#pragma GCC unroll 16
  for (int i = 0; i < kVectorWidth; ++i) {
    places[i] = 2 * i + kFirst;
  }
  return __builtin_shuffle(low, high, places);
}

// The places of a row's elements. Element e of the padded row, e = column + pad, is stored at
// e % stride * part + e / stride.
struct RowLayout {
  int64_t stride;
  int64_t part;  // floats of the even elements, and of the odd ones; at stride 1, of all
  int64_t pad;   // zeros left of the first column; if negative, the columns to leave out

  int64_t size() const { return stride * part; }
};

// to[i] = from[i] for i < count; nothing if count is below 1. For rows as short as most are, this
// is faster than memcpy.
inline void CopyFloats(const float* from, int64_t count, float* to) {
  if (count < kVectorWidth) {
    for (int64_t i = 0; i < count; ++i) {
      to[i] = from[i];
    }
    return;
  }
  for (int64_t i = 0; i < count; i += kVectorWidth) {
    const int64_t at = std::min(i, count - kVectorWidth);
    StoreVector(to + at, LoadVector(from + at));
  }
}

// even[i] = from[2 i] and odd[i] = from[2 i + 1] for `count` elements; nothing if count is below 1.
inline void SplitFloats(const float* from, int64_t count, float* even, float* odd) {
  const int64_t pairs = count / 2;
  if (pairs < kVectorWidth) {
    for (int64_t i = 0; i < pairs; ++i) {
      even[i] = from[2 * i];
      odd[i] = from[2 * i + 1];
    }
  } else {
    for (int64_t i = 0; i < pairs; i += kVectorWidth) {
      const int64_t at = std::min(i, pairs - kVectorWidth);
      const FloatVector low = LoadVector(from + 2 * at);
      const FloatVector high = LoadVector(from + 2 * at + kVectorWidth);
      StoreVector(even + at, EveryOther<0>(low, high));
      StoreVector(odd + at, EveryOther<1>(low, high));
    }
  }
  if (count > 0 && count % 2 != 0) {
    even[pairs] = from[count - 1];
  }
}

class PaddedRows {
 public:
  // in_height, in_width: the size of a plane. max_rows: the largest `count` of Load.
  PaddedRows(const RowLayout& layout, int64_t in_height, int64_t in_width, int64_t max_rows)
      : layout_(layout),
        in_height_(in_height),
        in_width_(in_width),
        rows_(max_rows * layout.size()) {
    // Copies never overwrite the zeros beside the columns, so these are written only here.
    std::fill(rows_.data(), rows_.data() + max_rows * layout.size(), 0.0f);
  }

  // Copies rows [first, first + count) of a plane. Rows outside it are zeros.
  void Load(const float* plane, int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      float* const to = rows_.data() + i * layout_.size();
      const int64_t row = first + i;
      if (row < 0 || row >= in_height_) {
        std::fill(to, to + layout_.size(), 0.0f);
      } else {
        CopyRow(plane + row * in_width_, to);
      }
    }
  }

  // The first element of the i-th row that was loaded.
  const float* Row(int64_t i) const { return rows_.data() + i * layout_.size(); }
  const RowLayout& layout() const { return layout_; }

 private:
  // Copies the columns of a row that fit in the layout.
  void CopyRow(const float* from, float* to) const {
    if (layout_.stride == 1) {
      const int64_t begin = std::max<int64_t>(0, -layout_.pad);
      const int64_t end = std::min(in_width_, layout_.part - layout_.pad);
      CopyFloats(from + begin, end - begin, to + begin + layout_.pad);
    } else {
      // Column 2 i lies at element 2 i + pad, column 2 i + 1 one further.
      const int64_t pad = layout_.pad;
      float* const even = to + pad % 2 * layout_.part + pad / 2;
      float* const odd = to + (pad + 1) % 2 * layout_.part + (pad + 1) / 2;
      SplitFloats(from, std::min(in_width_, layout_.size() - pad), even, odd);
    }
  }

  const RowLayout layout_;
  const int64_t in_height_;
  const int64_t in_width_;
  FloatBuffer rows_;
};

// The rows that follow the loaded ones in a tensor. They are prefetched while those are multiplied,
// so they are in the second-level cache when the next strip is loaded.
class UpcomingRows {
 public:
  // plane: the plane of the loaded rows. size: the number of floats from there to the end of the
  // tensor. first: the number of the first row to prefetch, which may lie outside the plane.
  UpcomingRows(const float* plane, int64_t size, int64_t row_size, int64_t first)
      : plane_(plane), size_(size), row_size_(row_size), first_(first) {}

  // Prefetches rows [row, row + count), counted from `first`.
  void Prefetch(int64_t row, int64_t count) const {
    constexpr int64_t kLineFloats = 16;
    const int64_t begin = std::max<int64_t>(0, (first_ + row) * row_size_);
    const int64_t end = std::min(size_, (first_ + row + count) * row_size_);
    for (int64_t i = begin; i < end; i += kLineFloats) {
      __builtin_prefetch(plane_ + i, 0, 2);
    }
  }

 private:
  const float* const plane_;
  const int64_t size_;
  const int64_t row_size_;
  const int64_t first_;
};

// Holds a vector in a register. Without this, GCC loads it again for each multiplication that uses
// it, and the loads limit the speed.
inline FloatVector InRegister(FloatVector value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#endif
  return value;
}

// Returns the distance in a stored row from the element under tap 0 to the element under tap `tap`
// of the same window.
template <int kStride>
inline int64_t TapPlace(int tap, int64_t part) {
  return tap % kStride * part + tap / kStride;
}

// A strip is a range of rows that are in memory at a time. It fits in the first-level cache.
constexpr int64_t kStripFloats = 6144;

// Returns the number of windows, one above the other, whose rows make a strip: from 1 to `windows`.
inline int64_t WindowsOfStrip(const RowLayout& layout, int64_t kernel, int64_t windows) {
  const int64_t rows = std::max(kernel, kStripFloats / std::max<int64_t>(1, layout.size()));
  return std::max<int64_t>(1, std::min(windows, (rows - kernel) / layout.stride + 1));
}

}  // namespace detectron_ext
