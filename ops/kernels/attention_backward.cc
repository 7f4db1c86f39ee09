#include "kernels/attention.h"
#include "kernels/attention_gradient_pass.h"

namespace detectron_ext {

void AttentionGradient(const AttentionShape& shape, const float* theta, const float* phi,
                       const float* g, const float* out, const float* log_sums, const float* d_out,
                       float* d_theta, float* d_phi, float* d_g, ParallelFor parallel_for) {
  if (shape.positions == 0) {
    return;
  }
  AttentionGradientPass pass(shape, parallel_for);
  for (int64_t image = 0; image < shape.images; ++image) {
    const int64_t at = image * shape.image_size();
    pass.Start(theta + at, out + at, log_sums + image * shape.positions, d_out + at);
    pass.ForEachBand([&](int64_t first, int64_t width) {
      const int64_t key = at + first;
      pass.Run({first,
                width,
                {phi + key, shape.positions},
                {g + key, shape.positions},
                nullptr,
                {d_phi + key, shape.positions},
                {d_g + key, shape.positions},
                nullptr});
    });
    pass.WriteQueryGradients(nullptr, d_theta + at);
  }
}

}  // namespace detectron_ext
