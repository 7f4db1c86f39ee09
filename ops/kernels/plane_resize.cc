#include "kernels/plane_resize.h"

#include <algorithm>

#include "kernels/formulas.h"

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

// The inverse of a non-decreasing table of indices into [0, in).
AxisWindows RunsOf(const std::vector<int32_t>& indices, int64_t in) {
  AxisWindows runs;
  for (int64_t i = 0; i < in; ++i) {
    const auto run = std::equal_range(indices.begin(), indices.end(), static_cast<int32_t>(i));
    runs.begin.push_back(static_cast<int32_t>(run.first - indices.begin()));
    runs.end.push_back(static_cast<int32_t>(run.second - indices.begin()));
  }
  return runs;
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

// The same, with the row of each column's maximum: the first of equal ones, the last of NaNs.
// Row numbers start at first_row.
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

// Whether a scan of the window would hold on to column `next` rather than column `best`, best left
// of next: the larger maximum wins, of equal ones the earlier row, of NaNs the later row.
bool LaterColumnWins(const float* maxima, const int32_t* rows, int32_t best, int32_t next) {
  const bool best_is_nan = maxima[best] != maxima[best];
  const bool next_is_nan = maxima[next] != maxima[next];
  if (best_is_nan || next_is_nan) {
    return next_is_nan && (!best_is_nan || rows[next] >= rows[best]);
  }
  return maxima[next] > maxima[best] ||
         (maxima[next] == maxima[best] && rows[next] < rows[best]);
}

// Sends the gradient of `width` windows of 2 x 2 to their first maxima. in and d_in point to the
// upper of two rows.
void AddGradientOfQuarterRow(int64_t width, const float* __restrict in,
                             const float* __restrict d_out, float weight, float* __restrict d_in) {
  const float* __restrict lower = in + 2 * width;
  float* __restrict d_lower = d_in + 2 * width;
  for (int64_t x = 0; x < width; ++x) {
    float best = in[2 * x];
    int32_t place = 0;
    const float upper_right = in[2 * x + 1];
    place = Replaces(upper_right, best) ? 1 : place;
    best = Replaces(upper_right, best) ? upper_right : best;
    const float lower_left = lower[2 * x];
    place = Replaces(lower_left, best) ? 2 : place;
    best = Replaces(lower_left, best) ? lower_left : best;
    place = Replaces(lower[2 * x + 1], best) ? 3 : place;
    const float share = weight * d_out[x];
    d_in[2 * x] += place == 0 ? share : 0.0f;
    d_in[2 * x + 1] += place == 1 ? share : 0.0f;
    d_lower[2 * x] += place == 2 ? share : 0.0f;
    d_lower[2 * x + 1] += place == 3 ? share : 0.0f;
  }
}

}  // namespace

MaxPoolPlan::MaxPoolPlan(PlaneSize in, PlaneSize out)
    : in_(in),
      out_(out),
      rows_(PoolWindows(in.height, out.height)),
      columns_(PoolWindows(in.width, out.width)),
      halves_width_(in.width == 2 * out.width),
      halves_height_(in.height == 2 * out.height) {}

void MaxPoolPlan::Add(const float* in, const float* base, float* out, float* scratch) const {
  for (int64_t y = 0; y < out_.height; ++y) {
    const int64_t first = rows_.begin[y];
    ColumnMaxima(in + first * in_.width, rows_.end[y] - first, in_.width, scratch);
    const float* base_row = base + y * out_.width;
    float* out_row = out + y * out_.width;
    if (halves_width_) {
      for (int64_t x = 0; x < out_.width; ++x) {
        const float left = scratch[2 * x];
        const float right = scratch[2 * x + 1];
        out_row[x] = base_row[x] + (Replaces(right, left) ? right : left);
      }
      continue;
    }
    for (int64_t x = 0; x < out_.width; ++x) {
      float best = scratch[columns_.begin[x]];
      for (int32_t c = columns_.begin[x] + 1; c < columns_.end[x]; ++c) {
        best = Replaces(scratch[c], best) ? scratch[c] : best;
      }
      out_row[x] = base_row[x] + best;
    }
  }
}

void MaxPoolPlan::AddGradient(const float* in, const float* d_out, float weight, float* d_in,
                              float* scratch, int32_t* index_scratch) const {
  if (halves_width_ && halves_height_) {
    AddGradientOfQuarters(in, d_out, weight, d_in);
    return;
  }
  for (int64_t y = 0; y < out_.height; ++y) {
    const int32_t first = rows_.begin[y];
    ColumnMaximaAndRows(in + first * in_.width, first, rows_.end[y] - first, in_.width, scratch,
                        index_scratch);
    const float* d_out_row = d_out + y * out_.width;
    for (int64_t x = 0; x < out_.width; ++x) {
      int32_t best = columns_.begin[x];
      for (int32_t c = best + 1; c < columns_.end[x]; ++c) {
        best = LaterColumnWins(scratch, index_scratch, best, c) ? c : best;
      }
      d_in[index_scratch[best] * in_.width + best] += weight * d_out_row[x];
    }
  }
}

// Windows of 2 x 2 do not overlap: every input is visited once, without a table.
void MaxPoolPlan::AddGradientOfQuarters(const float* in, const float* d_out, float weight,
                                        float* d_in) const {
  for (int64_t y = 0; y < out_.height; ++y) {
    AddGradientOfQuarterRow(out_.width, in + 2 * y * in_.width, d_out + y * out_.width, weight,
                            d_in + 2 * y * in_.width);
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
  for (int64_t x = 0; x < out_.width; ++x) {
    stretched[x] = in_row[column_of_[x]];
  }
}

void NearestPlan::AddGradient(const float* d_out, float weight, float* d_in,
                              float* scratch) const {
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
