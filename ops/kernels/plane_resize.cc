#include "kernels/plane_resize.h"

#include <algorithm>

#include "kernels/resize_indices.h"

namespace detectron_ext {
namespace {

AxisWindows PoolWindows(int64_t in, int64_t out) {
  AxisWindows windows;
  for (int64_t i = 0; i < out; ++i) {
    windows.begin.push_back(static_cast<int32_t>(PoolBegin(i, in, out)));
    windows.end.push_back(static_cast<int32_t>(PoolEnd(i, in, out)));
  }
  return windows;
}

std::vector<int32_t> NearestIndices(int64_t in, int64_t out) {
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < out; ++i) {
    indices.push_back(static_cast<int32_t>(NearestIndex(i, in, out)));
  }
  return indices;
}

// Returns for each index in [0, in) the range of places where a non-decreasing table holds it.
AxisWindows RunsOf(const std::vector<int32_t>& indices, int64_t in) {
  AxisWindows runs;
  for (int64_t i = 0; i < in; ++i) {
    const auto run = std::equal_range(indices.begin(), indices.end(), static_cast<int32_t>(i));
    runs.begin.push_back(static_cast<int32_t>(run.first - indices.begin()));
    runs.end.push_back(static_cast<int32_t>(run.second - indices.begin()));
  }
  return runs;
}

// fetched[i] = values[indices[i]].
template <typename Value>
void Fetch(const Value* values, const int32_t* indices, int64_t count, Value* fetched) {
  for (int64_t i = 0; i < count; ++i) {
    fetched[i] = values[indices[i]];
  }
}

// Writes the maximum of each column over `rows` rows.
void ColumnMaxima(const float* in, int64_t rows, int64_t width, float* maxima) {
  std::copy(in, in + width, maxima);
  for (int64_t y = 1; y < rows; ++y) {
    const float* row = in + y * width;
    for (int64_t x = 0; x < width; ++x) {
      maxima[x] = Replaces(row[x], maxima[x]) ? row[x] : maxima[x];
    }
  }
}

// Also writes the row of each column's maximum: the first row of equal numbers, the last row of
// NaNs. Row numbers start at first_row.
void ColumnMaximaAndRows(const float* in, int32_t first_row, int64_t rows, int64_t width,
                         float* maxima, int32_t* maximum_rows) {
  std::copy(in, in + width, maxima);
  std::fill(maximum_rows, maximum_rows + width, first_row);
  for (int64_t y = 1; y < rows; ++y) {
    const float* row = in + y * width;
    const int32_t number = first_row + static_cast<int32_t>(y);
    for (int64_t x = 0; x < width; ++x) {
      const bool replaces = Replaces(row[x], maxima[x]);
      maxima[x] = replaces ? row[x] : maxima[x];
      maximum_rows[x] = replaces ? number : maximum_rows[x];
    }
  }
}

// Writes the place of the first maximum (or last NaN) of each of `width` windows of 2 x 2: 0 and 1
// in the upper row, 2 and 3 in the lower. `in` points to the upper of two rows.
void MaximumPlaces(int64_t width, const float* __restrict in, int32_t* __restrict places) {
  const float* lower = in + 2 * width;
  for (int64_t x = 0; x < width; ++x) {
    const float candidates[4] = {in[2 * x], in[2 * x + 1], lower[2 * x], lower[2 * x + 1]};
    float best = candidates[0];
    int32_t place = 0;
    for (int32_t i = 1; i < 4; ++i) {
      const bool replaces = Replaces(candidates[i], best);
      best = replaces ? candidates[i] : best;
      place = replaces ? i : place;
    }
    places[x] = place;
  }
}

// Adds weight * d_out[x] at the place of window x. d_in points to the upper of two rows.
void AddAtPlaces(int64_t width, const int32_t* __restrict places, const float* __restrict d_out,
                 float weight, float* __restrict d_in) {
  float* __restrict d_lower = d_in + 2 * width;
  for (int64_t x = 0; x < width; ++x) {
    const float share = weight * d_out[x];
    const float upper_left = places[x] == 0 ? share : 0.0f;
    const float upper_right = places[x] == 1 ? share : 0.0f;
    const float lower_left = places[x] == 2 ? share : 0.0f;
    const float lower_right = places[x] == 3 ? share : 0.0f;
    d_in[2 * x] += upper_left;
    d_in[2 * x + 1] += upper_right;
    d_lower[2 * x] += lower_left;
    d_lower[2 * x + 1] += lower_right;
  }
}

}  // namespace

MaxPoolPlan::MaxPoolPlan(PlaneSize in, PlaneSize out)
    : in_(in),
      out_(out),
      rows_(PoolWindows(in.height, out.height)),
      reach_(0),
      halves_width_(in.width == 2 * out.width),
      halves_height_(in.height == 2 * out.height) {
  const AxisWindows windows = PoolWindows(in.width, out.width);
  for (int64_t x = 0; x < out.width; ++x) {
    reach_ = std::max<int64_t>(reach_, windows.end[x] - windows.begin[x]);
  }
  for (int32_t k = 0; k < reach_; ++k) {
    for (int64_t x = 0; x < out.width; ++x) {
      columns_.push_back(std::min(windows.begin[x] + k, windows.end[x] - 1));
    }
  }
}

void MaxPoolPlan::Add(const float* in, const float* base, float* out, float* scratch) const {
  for (int64_t y = 0; y < out_.height; ++y) {
    const int64_t first = rows_.begin[y];
    ColumnMaxima(in + first * in_.width, rows_.end[y] - first, in_.width, scratch);
    AddWindowMaxima(scratch, base + y * out_.width, out + y * out_.width, scratch + in_.width);
  }
}

void MaxPoolPlan::AddWindowMaxima(const float* maxima, const float* base_row, float* out_row,
                                  float* best) const {
  if (halves_width_) {
    for (int64_t x = 0; x < out_.width; ++x) {
      const float left = maxima[2 * x];
      const float right = maxima[2 * x + 1];
      out_row[x] = base_row[x] + (Replaces(right, left) ? right : left);
    }
    return;
  }
  // Fetching and comparing are separate loops: compilers vectorise only the comparison.
  float* const next = best + out_.width;
  Fetch(maxima, columns_.data(), out_.width, best);
  for (int64_t k = 1; k < reach_; ++k) {
    Fetch(maxima, columns_.data() + k * out_.width, out_.width, next);
    for (int64_t x = 0; x < out_.width; ++x) {
      best[x] = Replaces(next[x], best[x]) ? next[x] : best[x];
    }
  }
  for (int64_t x = 0; x < out_.width; ++x) {
    out_row[x] = base_row[x] + best[x];
  }
}

void MaxPoolPlan::AddGradient(const float* in, const float* d_out, float weight, float* d_in,
                              float* scratch, int32_t* index_scratch) const {
  if (halves_width_ && halves_height_) {
    for (int64_t y = 0; y < out_.height; ++y) {
      MaximumPlaces(out_.width, in + 2 * y * in_.width, index_scratch);
      AddAtPlaces(out_.width, index_scratch, d_out + y * out_.width, weight,
                  d_in + 2 * y * in_.width);
    }
    return;
  }
  int32_t* const best_rows = index_scratch + in_.width;
  int32_t* const best_columns = best_rows + out_.width;
  for (int64_t y = 0; y < out_.height; ++y) {
    const int32_t first = rows_.begin[y];
    ColumnMaximaAndRows(in + first * in_.width, first, rows_.end[y] - first, in_.width, scratch,
                        index_scratch);
    LocateWindowMaxima(scratch, index_scratch, scratch + in_.width, best_rows, best_columns);
    const float* d_out_row = d_out + y * out_.width;
    for (int64_t x = 0; x < out_.width; ++x) {
      d_in[best_rows[x] * in_.width + best_columns[x]] += weight * d_out_row[x];
    }
  }
}

void MaxPoolPlan::LocateWindowMaxima(const float* maxima, const int32_t* rows, float* best,
                                     int32_t* best_rows, int32_t* best_columns) const {
  float* const next = best + out_.width;
  int32_t* const next_rows = best_columns + out_.width;
  std::copy(columns_.begin(), columns_.begin() + out_.width, best_columns);
  Fetch(maxima, best_columns, out_.width, best);
  Fetch(rows, best_columns, out_.width, best_rows);
  for (int64_t k = 1; k < reach_; ++k) {
    const int32_t* columns = columns_.data() + k * out_.width;
    Fetch(maxima, columns, out_.width, next);
    Fetch(rows, columns, out_.width, next_rows);
    for (int64_t x = 0; x < out_.width; ++x) {
      // The same result as of a scan row by row: the larger number wins. Of equal numbers the one
      // in the upper row wins, and within a row the left one. Of NaNs the last one wins.
      const bool is_nan = next[x] != next[x];
      const bool held_is_nan = best[x] != best[x];
      const bool wins = (next[x] > best[x]) |
          ((next[x] == best[x]) & (next_rows[x] < best_rows[x])) |
          (is_nan & (!held_is_nan | (next_rows[x] >= best_rows[x])));
      best[x] = wins ? next[x] : best[x];
      best_rows[x] = wins ? next_rows[x] : best_rows[x];
      best_columns[x] = wins ? columns[x] : best_columns[x];
    }
  }
}

NearestPlan::NearestPlan(PlaneSize in, PlaneSize out)
    : in_(in),
      out_(out),
      row_of_(NearestIndices(in.height, out.height)),
      column_of_(NearestIndices(in.width, out.width)),
      copies_of_column_(RunsOf(column_of_, in.width)),
      doubles_width_(out.width == 2 * in.width) {}

void NearestPlan::Add(const float* in, const float* base, float* out, float* scratch) const {
  int32_t stretched_row = -1;
  for (int64_t y = 0; y < out_.height; ++y) {
    if (row_of_[y] != stretched_row) {
      stretched_row = row_of_[y];
      StretchRow(in + stretched_row * in_.width, scratch);
    }
    const float* base_row = base + y * out_.width;
    float* out_row = out + y * out_.width;
    for (int64_t x = 0; x < out_.width; ++x) {
      out_row[x] = base_row[x] + scratch[x];
    }
  }
}

void NearestPlan::StretchRow(const float* in_row, float* stretched) const {
  if (doubles_width_) {
    for (int64_t x = 0; x < in_.width; ++x) {
      stretched[2 * x] = in_row[x];
      stretched[2 * x + 1] = in_row[x];
    }
    return;
  }
  Fetch(in_row, column_of_.data(), out_.width, stretched);
}

void NearestPlan::AddGradient(const float* d_out, float weight, float* d_in, float* scratch) const {
  for (int64_t y = 0; y < out_.height;) {
    const int32_t in_row = row_of_[y];
    std::copy(d_out + y * out_.width, d_out + (y + 1) * out_.width, scratch);
    for (++y; y < out_.height && row_of_[y] == in_row; ++y) {
      const float* d_out_row = d_out + y * out_.width;
      for (int64_t x = 0; x < out_.width; ++x) {
        scratch[x] += d_out_row[x];
      }
    }
    AddShrunkRow(scratch, weight, d_in + in_row * in_.width);
  }
}

void NearestPlan::AddShrunkRow(const float* stretched, float weight, float* row) const {
  if (doubles_width_) {
    for (int64_t x = 0; x < in_.width; ++x) {
      row[x] += weight * (stretched[2 * x] + stretched[2 * x + 1]);
    }
    return;
  }
  for (int64_t x = 0; x < in_.width; ++x) {
    float sum = 0;
    for (int32_t c = copies_of_column_.begin[x]; c < copies_of_column_.end[x]; ++c) {
      sum += stretched[c];
    }
    row[x] += weight * sum;
  }
}

}  // namespace detectron_ext
