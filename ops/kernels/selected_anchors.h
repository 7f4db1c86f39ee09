// Numbers of the anchors that places select: M rows (n, c, y, x), as in kernels/selected_places.h.
// Here a map has one value for each anchor, or one logit for each of its classes. `channels` is the
// number of channels c that an anchor has.
//
// A minibatch has a few hundred rows, so the loops over them use one thread.
#pragma once

#include <cstdint>

#include "kernels/delta_box_iou.h"
#include "kernels/parallel.h"
#include "kernels/select_loss.h"
#include "kernels/sigmoid_focal.h"

namespace detectron_ext {

// (images, anchors, height, width)
struct AnchorMapShape {
  int64_t n, anchors, h, w;
  int64_t channels;

  // Returns the map of deltas that places refer to.
  MapShape Deltas() const { return {n, anchors * channels, h, w}; }
};

// Returns the index of an anchor's value in its map. `place` must lie inside.
DETECTRON_EXT_HOST_DEVICE int64_t AnchorIndex(const float* place, const AnchorMapShape& shape) {
  const int64_t image = static_cast<int64_t>(place[0]);
  const int64_t anchor = static_cast<int64_t>(place[1]) / shape.channels;
  const int64_t y = static_cast<int64_t>(place[2]), x = static_cast<int64_t>(place[3]);
  return ((image * shape.anchors + anchor) * shape.h + y) * shape.w + x;
}

// Writes to iou[i] the IoU of the prediction that row i selects with the target of the row.
inline void SelectBoxIou(const SelectLossInputs& in, double max_log_scale, float* iou) {
  for (int64_t i = 0; i < in.rows; ++i) {
    const float* const prediction = in.y_hat + SelectedIndex(in.places + 4 * i, in.map);
    iou[i] = DeltaBoxIou(prediction, in.map.h * in.map.w, in.y + 4 * i, max_log_scale);
  }
}

struct SelectFocalInputs {
  const float* logits;    // (n, anchors * classes, h, w)
  const int32_t* labels;  // (n, anchors, h, w)
  AnchorMapShape shape;
  int64_t classes;
  int64_t rows;
  const float* places;  // (rows, 4), all inside the map of deltas
  float gamma, alpha;
};

struct AnchorFocal {
  float loss;  // summed over classes; 0 if the anchor is ignored
  float p;     // probability of the class that is its label; 0 if that is none
};

// Returns the sigmoid focal loss of the anchor that row i selects.
DETECTRON_EXT_HOST_DEVICE AnchorFocal SelectedFocal(const SelectFocalInputs& in, int64_t i) {
  const AnchorMapShape& shape = in.shape;
  const int64_t at = AnchorIndex(in.places + 4 * i, shape), plane = shape.h * shape.w;
  const float* const logits = in.logits + at / plane * in.classes * plane + at % plane;
  const int32_t label = in.labels[at];
  if (label == -1) {
    return {0, 0};
  }
  const float weights[] = {in.alpha, 1 - in.alpha};
  const SigmoidFocal<true> square{in.gamma, weights[0], weights[1]};
  const SigmoidFocal<false> power{in.gamma, weights[0], weights[1]};
  double sum = 0;
  for (int64_t k = 0; k < in.classes; ++k) {
    const float x = logits[k * plane];
    sum += in.gamma == 2 ? square.Loss(x, label == k + 1) : power.Loss(x, label == k + 1);
  }
  const bool has_class = label > 0 && label <= in.classes;
  const float p = has_class ? SigmoidPartsOf(logits[(label - 1) * plane]).p : 0;
  return {static_cast<float>(sum), p};
}

// scaled = weights, with the value of the anchor that row i selects multiplied by factors[i]. If
// several rows select an anchor, all of their factors count, in the order of the rows.
inline void ScaleAnchors(const AnchorMapShape& shape, const float* weights, int64_t rows,
                         const float* factors, const float* places, float* scaled,
                         ParallelFor parallel_for) {
  ForEachBlock(parallel_for, shape.n * shape.anchors * shape.h * shape.w, 1 << 16,
               [=](int64_t begin, int64_t end) {
                 std::memcpy(scaled + begin, weights + begin, (end - begin) * sizeof(float));
               });
  for (int64_t i = 0; i < rows; ++i) {
    scaled[AnchorIndex(places + 4 * i, shape)] *= factors[i];
  }
}

}  // namespace detectron_ext
