// Copies of some rows of a plane with zeros around them, so that vector code needs no special case
// at the borders.
//
// At stride 2 the even elements of a row are stored first, then the odd ones. So the elements under
// one tap of a filter in consecutive windows are neighbours.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/copy_floats.h"
#include "kernels/packing.h"
#include "kernels/simd.h"
#include "kernels/split_vectors.h"

namespace detectron_ext {

// The places of a row's elements. Element e of the padded row, e = column + pad, is stored at
// e % stride * part + e / stride.
struct RowLayout {
  int64_t stride;
  int64_t part;  // floats of the even elements, and of the odd ones; at stride 1, of all
  int64_t pad;   // zeros left of the first column; if negative, the columns to leave out

  int64_t size() const { return stride * part; }
};

// Splits the elements of two vectors.
inline void SplitPairs(const float* from, float* even, float* odd) {
  const SplitVectors split = SplitByParity(LoadVector(from), LoadVector(from + kVectorWidth));
  StoreVector(even, split.even);
  StoreVector(odd, split.odd);
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
    for (int64_t i = 0; i + kVectorWidth < pairs; i += kVectorWidth) {
      SplitPairs(from + 2 * i, even + i, odd + i);
    }
    const int64_t last = pairs - kVectorWidth;
    SplitPairs(from + 2 * last, even + last, odd + last);
  }
  if (count > 0 && count % 2 != 0) {
    even[pairs] = from[count - 1];
  }
}

class PaddedRows {
 public:
  // in_height, in_width: the size of a plane. max_rows: the number of rows that can be loaded.
  PaddedRows(const RowLayout& layout, int64_t in_height, int64_t in_width, int64_t max_rows)
      : layout_(layout),
        in_height_(in_height),
        in_width_(in_width),
        rows_(max_rows * layout.size()) {
    // Copies never overwrite the zeros beside the columns, so these are written only here.
    std::fill(rows_.data(), rows_.data() + max_rows * layout.size(), 0.0f);
  }

  // Copies rows [first, first + count) of a plane to rows `at` and following. Rows outside the plane
  // are zeros.
  void Load(const float* plane, int64_t first, int64_t count, int64_t at = 0) {
    const int64_t above = std::min(count, std::max<int64_t>(0, -first));
    const int64_t below = std::max(above, std::min(count, in_height_ - first));
    ClearRows(at, at + above);
    ClearRows(at + below, at + count);
    LoadInside(plane, first, count, at);
  }

  // Copies only the rows inside the plane. The others stay as they were, zeros at first.
  void LoadInside(const float* plane, int64_t first, int64_t count, int64_t at) {
    const int64_t begin = std::max<int64_t>(0, first);
    const int64_t end = std::min(in_height_, first + count);
    float* to = rows_.data() + (at - first + begin) * layout_.size();
    for (int64_t row = begin; row < end; ++row, to += layout_.size()) {
      CopyRow(plane + row * in_width_, to);
    }
  }

  // The i-th row.
  const float* Row(int64_t i) const { return rows_.data() + i * layout_.size(); }
  const RowLayout& layout() const { return layout_; }

 private:
  void ClearRows(int64_t begin, int64_t end) {
    std::fill(rows_.data() + begin * layout_.size(), rows_.data() + end * layout_.size(), 0.0f);
  }

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

// How windows of planes are taken into memory: parts of a plane, or several small planes.
struct Strip {
  // windows: the number of windows in a plane, one above the other.
  Strip(const RowLayout& layout, int64_t kernel, int64_t windows) {
    const int64_t size = std::max<int64_t>(1, layout.size());
    const int64_t most = std::max(kernel, kStripFloats / size);
    count = std::max<int64_t>(1, std::min(windows, (most - kernel) / layout.stride + 1));
    rows = (count - 1) * layout.stride + kernel;
    planes = count < windows ? 1 : std::max<int64_t>(1, most / rows);
  }

  int64_t count;   // windows, one above the other, that are in memory at a time
  int64_t rows;    // rows under them
  int64_t planes;  // 1, or more if their windows all fit
};

}  // namespace detectron_ext
