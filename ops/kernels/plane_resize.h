// Adaptive max pooling and nearest resizing of one plane (one channel of one image), each added to
// another plane, and their gradients.
//
// A plan holds the index tables of a pair of sizes and serves every plane of that pair. Planes are
// row-major and contiguous. Every size must be positive; an output may be larger than its input.
#pragma once

#include <cstdint>
#include <vector>

namespace detectron_ext {

struct PlaneSize {
  int64_t height;
  int64_t width;
  int64_t area() const { return height * width; }
};

// For each output position of an axis, the range [begin, end) of input positions that it depends
// on.
struct AxisWindows {
  std::vector<int32_t> begin;
  std::vector<int32_t> end;
};

class MaxPoolPlan {
 public:
  MaxPoolPlan(PlaneSize in, PlaneSize out);

  // Floats that `scratch` of Add must hold. AddGradient needs as many floats and as many indices.
  int64_t scratch_size() const { return in_.width + 3 * out_.width; }

  // out = base + the maximum of `in` over each window; NaN where a window holds one. base may be
  // out.
  void Add(const float* in, const float* base, float* out, float* scratch) const;

  // For each output o: d_in[m] += weight * d_out[o], where m is the first maximum in scan order in
  // the window of o, or its last NaN.
  void AddGradient(const float* in, const float* d_out, float weight, float* d_in, float* scratch,
                   int32_t* index_scratch) const;

 private:
  // Adds to a row of the output the maximum of each window, given the maxima of the columns.
  void AddWindowMaxima(const float* maxima, const float* base_row, float* out_row,
                       float* best) const;

  // Finds the row and the column of each window's first maximum in scan order (or last NaN), given
  // the maxima of the columns and their rows.
  void LocateWindowMaxima(const float* maxima, const int32_t* rows, float* best, int32_t* best_rows,
                          int32_t* best_columns) const;

  PlaneSize in_;
  PlaneSize out_;
  AxisWindows rows_;
  int64_t reach_;  // columns of the widest window
  // [k][x]: column k of window x. Narrower windows repeat their last column.
  std::vector<int32_t> columns_;
  bool halves_width_;
  bool halves_height_;
};

class NearestPlan {
 public:
  NearestPlan(PlaneSize in, PlaneSize out);

  // Floats that `scratch` of Add and AddGradient must hold.
  int64_t scratch_size() const { return out_.width; }

  // out = base + `in` resized; base may be out.
  void Add(const float* in, const float* base, float* out, float* scratch) const;

  // d_in += weight times the sum of d_out over the outputs that repeat each input.
  void AddGradient(const float* d_out, float weight, float* d_in, float* scratch) const;

 private:
  // Writes an output row that repeats the elements of an input row.
  void StretchRow(const float* in_row, float* stretched) const;
  // The gradient of StretchRow: adds to an input row the sums of the output row's elements.
  void AddShrunkRow(const float* stretched, float weight, float* row) const;

  PlaneSize in_;
  PlaneSize out_;
  std::vector<int32_t> row_of_;     // input row of each output row
  std::vector<int32_t> column_of_;  // input column of each output column
  AxisWindows copies_of_column_;    // output columns [begin, end) of each input column
  bool doubles_width_;
};

}  // namespace detectron_ext
