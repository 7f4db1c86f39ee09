// Runs of neighbouring logits that the sigmoid losses on the CPU go through.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/sigmoid_focal_loss.h"

namespace detectron_ext {

constexpr int64_t kFocalBlock = 8192;  // logits of one block of work
constexpr int64_t kFocalRun = 512;     // logits of one inner loop

// Neighbouring logits of one plane.
struct FocalRun {
  int64_t first;   // index of the first logit
  int64_t anchor;  // index of its label and weight
  int32_t class_label;
  int64_t length;
};

// Calls visit(run) for the runs that make up [begin, end).
template <typename Visit>
void ForEachFocalRun(const SigmoidFocalShape& shape, int64_t begin, int64_t end,
                     const Visit& visit) {
  for (int64_t i = begin; i < end;) {
    const int64_t plane = i / shape.positions;
    const int64_t offset = i % shape.positions;
    const int64_t length = std::min({end - i, shape.positions - offset, kFocalRun});
    const int32_t class_label = static_cast<int32_t>(plane % shape.classes) + 1;
    visit(FocalRun{i, plane / shape.classes * shape.positions + offset, class_label, length});
    i += length;
  }
}

}  // namespace detectron_ext
