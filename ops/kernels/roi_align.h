// RoIAlign (Mask R-CNN, section 3): the mean of bilinear samples in each bin of a region.
//
// In a bilinear sample the weight of a cell is the product of a weight of its row and a weight of
// its column. The same holds for the mean over a bin's grid of samples. So a region's features are
// R X C^T, where R and C have a few weights for each bin and depend on the region alone. They are
// computed once and used for every channel: first along rows, on runs of neighbouring cells, then
// along columns.
//
// A region is five numbers: the index of its image, and x1, y1, x2, y2 in pixels of the image. Four
// numbers are the corners of a region of image 0. `scale` converts pixels to cells of the map.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/index_of_float.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct RoiAlignShape {
  int64_t images;
  int64_t channels;
  int64_t h;
  int64_t w;
  int64_t rois;
  int64_t roi_columns;  // 5, or 4 without the image
  int64_t pooled_h;
  int64_t pooled_w;
  int64_t sampling_ratio;  // samples along a side of a bin; 0 or less: one for each cell
  float scale;
  bool aligned;  // pixel centers are at halves, and regions may be smaller than a cell

  int64_t plane() const { return h * w; }
  int64_t bins() const { return pooled_h * pooled_w; }

  int64_t ImageOf(const float* roi) const {
    return roi_columns == 5 ? static_cast<int64_t>(roi[0]) : 0;
  }
  const float* CornersOf(const float* roi) const { return roi + roi_columns - 4; }
};

// Returns the first region without an image or with unusable corners, or -1 if there is none.
inline int64_t FirstBadAlignedRoi(const float* rois, const RoiAlignShape& shape) {
  constexpr float kLargest = 1e6f;  // in pixels and in cells; NaN fails the comparison
  for (int64_t r = 0; r < shape.rois; ++r) {
    const float* const roi = rois + r * shape.roi_columns;
    bool good = shape.roi_columns == 4 ? shape.images > 0 : IndexOfFloat(roi[0], shape.images) >= 0;
    const float* const corners = shape.CornersOf(roi);
    for (int i = 0; i < 4; ++i) {
      good = good && std::fabs(corners[i]) < kLargest &&
          std::fabs(corners[i] * shape.scale) < kLargest;
    }
    if (shape.aligned) {
      good = good && corners[0] <= corners[2] && corners[1] <= corners[3];
    }
    if (!good) {
      return r;
    }
  }
  return -1;
}

// The weights along one axis. With i = r * bins + b, the weights of bin b of region r are at the
// indices [starts[i], starts[i + 1]), in ascending order of their cells.
struct AxisWeights {
  std::vector<int64_t> starts;
  std::vector<int64_t> cells;
  std::vector<float> weights;

  // Adds a weight to the last bin.
  void Add(int64_t cell, float weight) {
    const int64_t size = cells.size();
    // The two cells of a sample may be those of the previous sample.
    for (int64_t i = size - 1; i >= std::max(starts.back(), size - 2); --i) {
      if (cells[i] == cell) {
        weights[i] += weight;
        return;
      }
    }
    cells.push_back(cell);
    weights.push_back(weight);
  }
};

// Appends the weights of one region's bins between the corners `low` and `high`, on an axis of
// `size` cells.
inline void AddRegion(float low, float high, int64_t bins, int64_t size, const RoiAlignShape& shape,
                      AxisWeights* axis) {
  const float offset = shape.aligned ? 0.5f : 0.0f;
  const float start = low * shape.scale - offset;
  const float extent = high * shape.scale - offset - start;
  const float length = shape.aligned ? extent : std::max(extent, 1.0f);
  const float step = length / static_cast<float>(bins);
  const int64_t samples =
      shape.sampling_ratio > 0 ? shape.sampling_ratio : static_cast<int64_t>(std::ceil(step));
  const float share = 1.0f / static_cast<float>(std::max<int64_t>(samples, 1));
  for (int64_t b = 0; b < bins; ++b) {
    axis->starts.push_back(axis->cells.size());
    for (int64_t s = 0; s < samples; ++s) {
      const float at = start + static_cast<float>(b) * step +
          (static_cast<float>(s) + 0.5f) * step / static_cast<float>(samples);
      if (at < -1.0f || at > static_cast<float>(size)) {
        continue;
      }
      const float inside = std::min(std::max(at, 0.0f), static_cast<float>(size - 1));
      const int64_t cell = static_cast<int64_t>(inside);
      const float fraction = inside - static_cast<float>(cell);
      axis->Add(cell, (1.0f - fraction) * share);
      if (fraction > 0) {
        axis->Add(cell + 1, fraction * share);
      }
    }
  }
}

// The regions of each image, and their weights.
struct RoiAlignPlan {
  AxisWeights rows;
  AxisWeights columns;
  std::vector<std::vector<int64_t>> rois_of_image;

  RoiAlignPlan(const float* rois, const RoiAlignShape& shape) : rois_of_image(shape.images) {
    for (int64_t r = 0; r < shape.rois; ++r) {
      const float* const roi = rois + r * shape.roi_columns;
      const float* const corners = shape.CornersOf(roi);
      rois_of_image[shape.ImageOf(roi)].push_back(r);
      AddRegion(corners[1], corners[3], shape.pooled_h, shape.h, shape, &rows);
      AddRegion(corners[0], corners[2], shape.pooled_w, shape.w, shape, &columns);
    }
    rows.starts.push_back(rows.cells.size());
    columns.starts.push_back(columns.cells.size());
  }
};

// The cells of a row that a region reads: `length` cells from `first` on.
struct CellRange {
  int64_t first;
  int64_t length;
};

// Returns the cells of a row that a region reads.
inline CellRange ColumnsOf(const AxisWeights& columns, int64_t roi, int64_t bins) {
  const int64_t begin = columns.starts[roi * bins];
  const int64_t end = columns.starts[(roi + 1) * bins];
  if (begin == end) {
    return {0, 0};
  }
  return {columns.cells[begin], columns.cells[end - 1] - columns.cells[begin] + 1};
}

// Computes one region's features of one channel. `plane` is (h, w), `y` (pooled_h, pooled_w);
// `buffer` has room for w numbers.
inline void AlignPlane(const float* plane, const RoiAlignPlan& plan, int64_t roi,
                       const RoiAlignShape& shape, float* buffer, float* y) {
  const CellRange run = ColumnsOf(plan.columns, roi, shape.pooled_w);
  for (int64_t i = 0; i < shape.pooled_h; ++i) {
    std::fill_n(buffer, run.length, 0.0f);
    const int64_t* const rows = &plan.rows.starts[roi * shape.pooled_h + i];
    for (int64_t k = rows[0]; k < rows[1]; ++k) {
      const float* const from = plane + plan.rows.cells[k] * shape.w + run.first;
      const float weight = plan.rows.weights[k];
      for (int64_t x = 0; x < run.length; ++x) {
        buffer[x] += weight * from[x];
      }
    }
    const int64_t* const columns = &plan.columns.starts[roi * shape.pooled_w];
    for (int64_t j = 0; j < shape.pooled_w; ++j) {
      float sum = 0;
      for (int64_t k = columns[j]; k < columns[j + 1]; ++k) {
        sum += plan.columns.weights[k] * buffer[plan.columns.cells[k] - run.first];
      }
      y[i * shape.pooled_w + j] = sum;
    }
  }
}

// Adds to `d_plane` (h, w) the gradient of the plane, given the gradient `dy` (pooled_h, pooled_w)
// of a region's features of that channel.
inline void AddAlignPlaneGradient(const float* dy, const RoiAlignPlan& plan, int64_t roi,
                                  const RoiAlignShape& shape, float* buffer, float* d_plane) {
  const CellRange run = ColumnsOf(plan.columns, roi, shape.pooled_w);
  for (int64_t i = 0; i < shape.pooled_h; ++i) {
    std::fill_n(buffer, run.length, 0.0f);
    const int64_t* const columns = &plan.columns.starts[roi * shape.pooled_w];
    for (int64_t j = 0; j < shape.pooled_w; ++j) {
      const float slope = dy[i * shape.pooled_w + j];
      for (int64_t k = columns[j]; k < columns[j + 1]; ++k) {
        buffer[plan.columns.cells[k] - run.first] += plan.columns.weights[k] * slope;
      }
    }
    const int64_t* const rows = &plan.rows.starts[roi * shape.pooled_h + i];
    for (int64_t k = rows[0]; k < rows[1]; ++k) {
      float* const to = d_plane + plan.rows.cells[k] * shape.w + run.first;
      const float weight = plan.rows.weights[k];
      for (int64_t x = 0; x < run.length; ++x) {
        to[x] += weight * buffer[x];
      }
    }
  }
}

// Writes y (rois, channels, pooled_h, pooled_w), given x (images, channels, h, w).
inline void RoiAlign(const float* x, const float* rois, const RoiAlignShape& shape, float* y,
                     ParallelFor parallel_for) {
  const RoiAlignPlan plan(rois, shape);
  ForEachBlock(parallel_for, shape.images * shape.channels, 1, [&](int64_t index, int64_t) {
    std::vector<float> buffer(shape.w);
    const int64_t channel = index % shape.channels;
    for (const int64_t roi : plan.rois_of_image[index / shape.channels]) {
      float* const features = y + (roi * shape.channels + channel) * shape.bins();
      AlignPlane(x + index * shape.plane(), plan, roi, shape, buffer.data(), features);
    }
  });
}

// Writes dx. One thread adds up each plane, region by region, so the order of the sums is fixed.
inline void RoiAlignGradient(const float* rois, const float* dy, const RoiAlignShape& shape,
                             float* dx, ParallelFor parallel_for) {
  const RoiAlignPlan plan(rois, shape);
  ForEachBlock(parallel_for, shape.images * shape.channels, 1, [&](int64_t index, int64_t) {
    std::vector<float> buffer(shape.w);
    float* const d_plane = dx + index * shape.plane();
    std::memset(d_plane, 0, shape.plane() * sizeof(float));
    const int64_t channel = index % shape.channels;
    for (const int64_t roi : plan.rois_of_image[index / shape.channels]) {
      const float* const slopes = dy + (roi * shape.channels + channel) * shape.bins();
      AddAlignPlaneGradient(slopes, plan, roi, shape, buffer.data(), d_plane);
    }
  });
}

}  // namespace detectron_ext
