// Pooling of regions of interest: Detectron's RoIPoolF (maximum; Fast R-CNN, section 2.1) and
// PSRoIPool (position-sensitive mean; R-FCN, section 2.2).
//
// A region is five numbers: the index of its image, and x1, y1, x2, y2 in pixels of the image.
// `scale` converts pixels to cells of the map. Bins are cut to the map.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/index_of_float.h"
#include "kernels/parallel.h"

namespace detectron_ext {

struct RoiPoolShape {
  int64_t images;
  int64_t channels;  // of the map
  int64_t h;
  int64_t w;
  int64_t rois;
  int64_t pooled_h;
  int64_t pooled_w;
  float scale;

  int64_t plane() const { return h * w; }
  int64_t bins() const { return pooled_h * pooled_w; }
};

struct Range {
  int64_t begin;
  int64_t end;

  bool empty() const { return end <= begin; }
};

// Returns the first region without an image or with unusable corners, or -1 if there is none.
inline int64_t FirstBadRoi(const float* rois, const RoiPoolShape& shape) {
  constexpr float kLargest = 1e8f;  // fits in an integer; NaN fails the comparison
  for (int64_t r = 0; r < shape.rois; ++r) {
    bool good = IndexOfFloat(rois[5 * r], shape.images) >= 0;
    for (int i = 1; i < 5; ++i) {
      good = good && std::fabs(rois[5 * r + i]) < kLargest &&
          std::fabs(rois[5 * r + i] * shape.scale) < kLargest;
    }
    if (!good) {
      return r;
    }
  }
  return -1;
}

// Returns the part of [begin, end) that lies in [0, size).
inline Range Cut(int64_t begin, int64_t end, int64_t size) {
  return {std::min(std::max<int64_t>(begin, 0), size), std::min(std::max<int64_t>(end, 0), size)};
}

// Returns the rows (or columns) of bin `bin` of RoIPoolF, between the corners `low` and `high`.
inline Range MaxBin(float low, float high, float scale, int64_t bin, int64_t bins, int64_t size) {
  const int64_t start = static_cast<int64_t>(std::round(low * scale));
  const int64_t stop = static_cast<int64_t>(std::round(high * scale));
  const int64_t length = std::max<int64_t>(stop - start + 1, 1);
  const float step = static_cast<float>(length) / static_cast<float>(bins);
  const int64_t begin = static_cast<int64_t>(std::floor(static_cast<float>(bin) * step));
  const int64_t end = static_cast<int64_t>(std::ceil(static_cast<float>(bin + 1) * step));
  return Cut(begin + start, end + start, size);
}

// Returns the same for PSRoIPool, whose regions keep their fractions after scaling.
inline Range MeanBin(float low, float high, float scale, int64_t bin, int64_t bins, int64_t size) {
  const float start = std::round(low) * scale;
  const float stop = (std::round(high) + 1.0f) * scale;
  const float step = std::max(stop - start, 0.1f) / static_cast<float>(bins);
  const float begin = std::floor(static_cast<float>(bin) * step + start);
  const float end = std::ceil(static_cast<float>(bin + 1) * step + start);
  // A huge scale gives numbers that no integer holds, so they are cut before the conversion.
  const float largest = static_cast<float>(size);
  return Cut(static_cast<int64_t>(std::min(std::max(begin, 0.0f), largest)),
             static_cast<int64_t>(std::min(std::max(end, 0.0f), largest)), size);
}

// Writes y and argmax, both (rois, channels, pooled_h, pooled_w). argmax is the index in the plane
// of the first maximum. In an empty bin the maximum is 0 and argmax -1. A NaN is ignored.
inline void RoiMaxPool(const float* x, const float* rois, const RoiPoolShape& shape, float* y,
                       int32_t* argmax, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, shape.rois * shape.channels, 1, [=](int64_t index, int64_t) {
    const float* roi = rois + index / shape.channels * 5;
    const int64_t image = static_cast<int64_t>(roi[0]);
    const float* plane = x + (image * shape.channels + index % shape.channels) * shape.plane();
    for (int64_t bin = 0; bin < shape.bins(); ++bin) {
      const Range rows =
          MaxBin(roi[2], roi[4], shape.scale, bin / shape.pooled_w, shape.pooled_h, shape.h);
      const Range columns =
          MaxBin(roi[1], roi[3], shape.scale, bin % shape.pooled_w, shape.pooled_w, shape.w);
      const bool empty = rows.empty() || columns.empty();
      float best = empty ? 0.0f : std::numeric_limits<float>::lowest();
      int64_t best_at = -1;
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        for (int64_t c = columns.begin; c < columns.end; ++c) {
          if (plane[r * shape.w + c] > best) {
            best = plane[r * shape.w + c];
            best_at = r * shape.w + c;
          }
        }
      }
      y[index * shape.bins() + bin] = best;
      argmax[index * shape.bins() + bin] = static_cast<int32_t>(best_at);
    }
  });
}

// Sets a channel of dx to 0 in all images.
inline void ClearChannel(int64_t channel, const RoiPoolShape& shape, float* dx) {
  for (int64_t n = 0; n < shape.images; ++n) {
    float* plane = dx + (n * shape.channels + channel) * shape.plane();
    std::memset(plane, 0, shape.plane() * sizeof(float));
  }
}

// Writes dx: the gradient of each bin is added at its maximum. One thread adds up each channel,
// region by region.
inline void RoiMaxPoolGradient(const float* rois, const int32_t* argmax, const float* dy,
                               const RoiPoolShape& shape, float* dx, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, shape.channels, 1, [=](int64_t channel, int64_t) {
    ClearChannel(channel, shape, dx);
    for (int64_t r = 0; r < shape.rois; ++r) {
      const int64_t image = static_cast<int64_t>(rois[5 * r]);
      float* plane = dx + (image * shape.channels + channel) * shape.plane();
      const int64_t first = (r * shape.channels + channel) * shape.bins();
      for (int64_t i = first; i < first + shape.bins(); ++i) {
        if (argmax[i] >= 0) {
          plane[argmax[i]] += dy[i];
        }
      }
    }
  });
}

// Calls visit(offset of the plane in x, index in y, rows, columns) for the bin of a region that
// reads one channel of the map. There is exactly one, as every bin has channels of its own.
template <typename Visit>
void VisitPositionSensitiveBin(const float* rois, int64_t r, int64_t channel,
                               const RoiPoolShape& shape, int64_t outputs, const Visit& visit) {
  const float* roi = rois + 5 * r;
  const int64_t bin = channel % shape.bins();
  const Range rows =
      MeanBin(roi[2], roi[4], shape.scale, bin / shape.pooled_w, shape.pooled_h, shape.h);
  const Range columns =
      MeanBin(roi[1], roi[3], shape.scale, bin % shape.pooled_w, shape.pooled_w, shape.w);
  const int64_t image = static_cast<int64_t>(roi[0]);
  visit((image * shape.channels + channel) * shape.plane(), r * outputs * shape.bins() + channel,
        rows, columns);
}

// Writes y and channels, both (rois, outputs, pooled_h, pooled_w). Bin b of output o is the mean of
// channel o * bins + b of the map over the bin, or 0 if the bin is empty. `channels` holds the
// number of that channel.
inline void PositionSensitiveRoiPool(const float* x, const float* rois, const RoiPoolShape& shape,
                                     int64_t outputs, float* y, int32_t* channels,
                                     ParallelFor parallel_for) {
  ForEachBlock(parallel_for, outputs * shape.bins(), 1, [=](int64_t channel, int64_t) {
    for (int64_t r = 0; r < shape.rois; ++r) {
      VisitPositionSensitiveBin(
          rois, r, channel, shape, outputs,
          [=](int64_t plane, int64_t at, const Range& rows, const Range& columns) {
            float sum = 0;
            for (int64_t i = rows.begin; i < rows.end; ++i) {
              for (int64_t j = columns.begin; j < columns.end; ++j) {
                sum += x[plane + i * shape.w + j];
              }
            }
            const int64_t area = (rows.end - rows.begin) * (columns.end - columns.begin);
            y[at] = rows.empty() || columns.empty() ? 0.0f : sum / static_cast<float>(area);
            channels[at] = static_cast<int32_t>(channel);
          });
    }
  });
}

// Writes dx. Channels of the map that no output reads get 0.
inline void PositionSensitiveRoiPoolGradient(const float* rois, const float* dy,
                                             const RoiPoolShape& shape, int64_t outputs, float* dx,
                                             ParallelFor parallel_for) {
  ForEachBlock(parallel_for, shape.channels, 1, [=](int64_t channel, int64_t) {
    ClearChannel(channel, shape, dx);
    for (int64_t r = 0; r < shape.rois && channel < outputs * shape.bins(); ++r) {
      VisitPositionSensitiveBin(
          rois, r, channel, shape, outputs,
          [=](int64_t plane, int64_t at, const Range& rows, const Range& columns) {
            const int64_t area = (rows.end - rows.begin) * (columns.end - columns.begin);
            const float share = dy[at] / static_cast<float>(std::max<int64_t>(area, 1));
            for (int64_t i = rows.begin; i < rows.end; ++i) {
              for (int64_t j = columns.begin; j < columns.end; ++j) {
                dx[plane + i * shape.w + j] += share;
              }
            }
          });
    }
  });
}

}  // namespace detectron_ext
