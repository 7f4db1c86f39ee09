// Parameters of the focal losses (arXiv:1708.02002).
#pragma once

namespace detectron_ext {

struct FocalParameters {
  float gamma;
  float positive_weight;  // alpha / max(foreground, 1)
  float negative_weight;  // (1 - alpha) / max(foreground, 1)
};

}  // namespace detectron_ext
