// Proposals of a region proposal network (Faster R-CNN, section 3.1) for one image and one map. The
// anchors with the best scores are moved by their deltas and clipped to the image. Boxes that are
// too small or have their center outside the image are dropped. Of boxes that overlap too much,
// only the best one is kept.
//
// A score and four deltas that are all finite give a proposal. An anchor with an infinity or a NaN
// in any of them gives none. Finite deltas may have any size: they are capped and clipped.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace detectron_ext {

struct ProposalSettings {
  float stride;          // pixels between cells of the map
  int64_t most_anchors;  // the most anchors that are moved; 0 or less: all
  int64_t most_boxes;    // the most boxes that are returned; 0 or less: all
  float max_overlap;     // intersection over union, above which the worse box is dropped
  float min_size;        // of a side, in pixels of the unscaled image
  float plus_one;        // 1 if the last pixel belongs to a box, else 0
};

// An image's part of the network's outputs. Scores are (anchors, h, w). Deltas are (4 * anchors, h,
// w): dx, dy, dw and dh of an anchor follow one another. cell_anchors (anchors, 4) are the anchors
// of the first cell.
struct ProposalInputs {
  const float* scores;
  const float* deltas;
  const float* cell_anchors;
  int64_t anchors;
  int64_t h;
  int64_t w;
  float image_height;
  float image_width;
  float image_scale;
};

// Boxes, with an array for each coordinate, so that loops over boxes become vector code.
struct Proposals {
  std::vector<float> x1, y1, x2, y2, scores;

  int64_t size() const { return scores.size(); }

  void Resize(int64_t size) {
    for (std::vector<float>* values : {&x1, &y1, &x2, &y2, &scores}) {
      values->resize(size);
    }
  }

  // Copies box `from` to index `to`.
  void Move(int64_t from, int64_t to) {
    for (std::vector<float>* values : {&x1, &y1, &x2, &y2, &scores}) {
      (*values)[to] = (*values)[from];
    }
  }
};

// Returns the indices of the `most` highest finite scores, best first; of all finite scores if
// `most` is 0 or less. Equal scores are in the order of their indices.
inline std::vector<int32_t> BestScores(const float* scores, int64_t size, int64_t most) {
  std::vector<int32_t> order;
  order.reserve(size);
  for (int64_t i = 0; i < size; ++i) {
    if (std::isfinite(scores[i])) {
      order.push_back(i);
    }
  }
  const int64_t count = most > 0 ? std::min<int64_t>(most, order.size()) : order.size();
  const auto is_better = [scores](int32_t a, int32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  };
  const auto end = order.begin() + count;
  if (end != order.end()) {
    std::nth_element(order.begin(), end, order.end(), is_better);
  }
  std::sort(order.begin(), end, is_better);
  order.resize(count);
  return order;
}

// Returns whether the four deltas of an anchor, `plane` floats apart, are finite.
inline bool DeltasAreFinite(const float* delta, int64_t plane) {
  return std::isfinite(delta[0]) && std::isfinite(delta[plane]) &&
      std::isfinite(delta[2 * plane]) && std::isfinite(delta[3 * plane]);
}

// Moves anchors by their deltas (R-CNN, appendix C) and clips them to the image. Leaves out boxes
// that are too small or have their center outside the image, and anchors whose deltas are not
// finite.
inline Proposals MoveAnchors(const ProposalInputs& inputs, const ProposalSettings& settings,
                             const std::vector<int32_t>& order) {
  const float kMaxLogScale = std::log(1000.0f / 16.0f);
  const int64_t plane = inputs.h * inputs.w;
  const float right = inputs.image_width - settings.plus_one;
  const float bottom = inputs.image_height - settings.plus_one;
  const float min_size = settings.min_size * inputs.image_scale;
  Proposals boxes;
  boxes.Resize(order.size());
  int64_t count = 0;
  for (const int32_t index : order) {
    const int64_t cell = index % plane;
    const float* const anchor = inputs.cell_anchors + index / plane * 4;
    const float* const delta = inputs.deltas + index / plane * 4 * plane + cell;
    if (!DeltasAreFinite(delta, plane)) {
      continue;
    }
    const float width = anchor[2] - anchor[0] + settings.plus_one;
    const float height = anchor[3] - anchor[1] + settings.plus_one;
    const float left = anchor[0] + static_cast<float>(cell % inputs.w) * settings.stride;
    const float top = anchor[1] + static_cast<float>(cell / inputs.w) * settings.stride;
    const float center_x = delta[0] * width + left + 0.5f * width;
    const float center_y = delta[plane] * height + top + 0.5f * height;
    const float half_width = 0.5f * width * std::exp(std::min(delta[2 * plane], kMaxLogScale));
    const float half_height = 0.5f * height * std::exp(std::min(delta[3 * plane], kMaxLogScale));
    const float x1 = std::max(std::min(center_x - half_width, right), 0.0f);
    const float y1 = std::max(std::min(center_y - half_height, bottom), 0.0f);
    const float x2 = std::max(std::min(center_x + half_width - settings.plus_one, right), 0.0f);
    const float y2 = std::max(std::min(center_y + half_height - settings.plus_one, bottom), 0.0f);
    const float clipped_width = x2 - x1 + settings.plus_one;
    const float clipped_height = y2 - y1 + settings.plus_one;
    const bool is_inside = x1 + 0.5f * clipped_width < inputs.image_width &&
        y1 + 0.5f * clipped_height < inputs.image_height;
    if (is_inside && clipped_width >= min_size && clipped_height >= min_size) {
      boxes.x1[count] = x1;
      boxes.y1[count] = y1;
      boxes.x2[count] = x2;
      boxes.y2[count] = y2;
      boxes.scores[count] = inputs.scores[index];
      ++count;
    }
  }
  boxes.Resize(count);
  return boxes;
}

// Keeps at most `most_boxes` boxes. The boxes must be in the order of their scores. A box is
// dropped if its intersection over union with a kept box before it is above max_overlap.
inline void SuppressOverlaps(const ProposalSettings& settings, Proposals* boxes) {
  const int64_t size = boxes->size();
  const int64_t most = settings.most_boxes > 0 ? settings.most_boxes : size;
  const float one = settings.plus_one;
  std::vector<float> areas(size);
  for (int64_t i = 0; i < size; ++i) {
    areas[i] = (boxes->x2[i] - boxes->x1[i] + one) * (boxes->y2[i] - boxes->y1[i] + one);
  }
  std::vector<int32_t> suppressed(size, 0);
  int64_t kept = 0;
  for (int64_t i = 0; i < size && kept < most; ++i) {
    if (suppressed[i]) {
      continue;
    }
    const float x1 = boxes->x1[i], y1 = boxes->y1[i], x2 = boxes->x2[i], y2 = boxes->y2[i];
    const float area = areas[i];
    const float* const other_x1 = boxes->x1.data();
    const float* const other_y1 = boxes->y1.data();
    const float* const other_x2 = boxes->x2.data();
    const float* const other_y2 = boxes->y2.data();
    int32_t* const flags = suppressed.data();
    for (int64_t j = i + 1; j < size; ++j) {
      const float width = std::min(x2, other_x2[j]) - std::max(x1, other_x1[j]) + one;
      const float height = std::min(y2, other_y2[j]) - std::max(y1, other_y1[j]) + one;
      const float common = std::max(width, 0.0f) * std::max(height, 0.0f);
      // For two boxes without area the quotient is 0 / 0. Such a box is dropped, too.
      flags[j] |= !(common / (area + areas[j] - common) <= settings.max_overlap);
    }
    boxes->Move(i, kept++);
  }
  boxes->Resize(kept);
}

// Returns the proposals of an image, best first.
inline Proposals MakeProposals(const ProposalInputs& inputs, const ProposalSettings& settings) {
  const int64_t size = inputs.anchors * inputs.h * inputs.w;
  Proposals boxes =
      MoveAnchors(inputs, settings, BestScores(inputs.scores, size, settings.most_anchors));
  SuppressOverlaps(settings, &boxes);
  return boxes;
}

}  // namespace detectron_ext
