#include "kernels/gradient_mass.h"

#include <algorithm>
#include <vector>

#include "kernels/sigmoid_focal.h"

namespace detectron_ext {
namespace {

constexpr int64_t kRun = 512;        // anchors of one inner loop
constexpr int64_t kMostBlocks = 64;  // each has a sum of every bin

// Adds the gradients of the anchors [begin, end) to the sums of their bins. masses[0] gets those
// that are not counted. The gradient of a negative is never below 0.
template <bool kGammaTwo>
void AddMasses(const GradientMassInputs& in, int64_t begin, int64_t end, double* masses) {
  const SigmoidFocal<kGammaTwo> formula{in.gamma, 0.0f, 1.0f - in.alpha};
  float slopes[kRun];
  for (int64_t first = begin; first < end;) {
    const int64_t offset = first % in.positions;
    const int64_t length = std::min({end - first, in.positions - offset, kRun});
    const float* x = in.logits + first / in.positions * in.classes * in.positions + offset;
    std::fill_n(slopes, length, 0.0f);
    for (int64_t k = 0; k < in.classes; ++k, x += in.positions) {
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        slopes[i] += formula.Gradient(x[i], false);
      }
    }
    for (int64_t i = 0; i < length; ++i) {
      masses[in.bins[first + i]] += slopes[i];
    }
    first += length;
  }
}

}  // namespace

void NegativeGradientMass(const GradientMassInputs& in, float* mass, ParallelFor parallel_for) {
  const int64_t count = in.classes > 0 ? in.anchors * in.positions : 0;
  const int64_t block = std::max(kRun, (count + kMostBlocks - 1) / kMostBlocks);
  const int64_t width = in.num_bins + 1;
  const int64_t num_blocks = (count + block - 1) / block;
  std::vector<double> masses(num_blocks * width);
  const auto add = in.gamma == 2.0f ? AddMasses<true> : AddMasses<false>;
  ForEachBlock(parallel_for, count, block, [&](int64_t begin, int64_t end) {
    add(in, begin, end, masses.data() + begin / block * width);
  });
  for (int64_t bin = 1; bin < width; ++bin) {
    double sum = 0;
    for (int64_t b = 0; b < num_blocks; ++b) {
      sum += masses[b * width + bin];
    }
    mass[bin - 1] = static_cast<float>(sum);
  }
}

}  // namespace detectron_ext
