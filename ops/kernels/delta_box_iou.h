// The IoU of two boxes that are given as deltas (dx, dy, dw, dh) of the same anchor.
#pragma once

#include <cmath>

#include "kernels/elementary.h"

namespace detectron_ext {

// One side of a box, in the unit of the anchor's side, relative to the anchor's centre.
struct DeltaSide {
  double center;
  double length;
};

// Returns the length that two sides have in common, at least 0.
DETECTRON_EXT_HOST_DEVICE double CommonLength(const DeltaSide& a, const DeltaSide& b) {
  const double a_end = a.center + 0.5 * a.length, b_end = b.center + 0.5 * b.length;
  const double a_begin = a.center - 0.5 * a.length, b_begin = b.center - 0.5 * b.length;
  const double common = (a_end < b_end ? a_end : b_end) - (a_begin > b_begin ? a_begin : b_begin);
  return common > 0 ? common : 0;
}

// Returns the IoU of the box with `prediction` and the box with `target`. Areas are divided by that
// of the anchor, which therefore need not be known. The predicted dw and dh are limited to
// max_log_scale, as when boxes are decoded. The result is from 0 to 1, and NaN if a delta is NaN.
//
// It is computed in doubles: deltas are few, and no finite float32 overflows a sum of them.
DETECTRON_EXT_HOST_DEVICE float DeltaBoxIou(const float* prediction, int64_t stride,
                                            const float* target, double max_log_scale) {
  const double dx = prediction[0], dy = prediction[stride];
  double dw = prediction[2 * stride], dh = prediction[3 * stride];
  dw = dw > max_log_scale ? max_log_scale : dw;
  dh = dh > max_log_scale ? max_log_scale : dh;
  const double bad = dx + dy + dw + dh + target[0] + target[1] + target[2] + target[3];
  const DeltaSide x{dx, exp(dw)}, y{dy, exp(dh)};
  const DeltaSide true_x{target[0], exp(static_cast<double>(target[2]))};
  const DeltaSide true_y{target[1], exp(static_cast<double>(target[3]))};
  const double common = CommonLength(x, true_x) * CommonLength(y, true_y);
  const double joined = x.length * y.length + true_x.length * true_y.length - common;
  // Two boxes without an area have nothing in common. Rounding could give a little more than 1.
  const double iou = common > 0 ? common / joined : 0;
  const double bounded = iou > 1 ? 1 : iou;
  return static_cast<float>(bad != bad ? bad : bounded);
}

}  // namespace detectron_ext
