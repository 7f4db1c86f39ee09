// Runs the scalar functions of ops/kernels on extreme and random numbers. test_formula_sweep.py
// compiles it without optimisation and with sanitizers: undefined behaviour ends the program.
//
// A few results are checked, too; the tests of the operators check the rest.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "kernels/balanced_l1.h"
#include "kernels/dense_loss.h"
#include "kernels/elementary.h"
#include "kernels/elementwise.h"
#include "kernels/group_norm.h"
#include "kernels/group_softmax.h"
#include "kernels/index_of_float.h"
#include "kernels/max_pool.h"
#include "kernels/proposals.h"
#include "kernels/resize_indices.h"
#include "kernels/roi_align.h"
#include "kernels/roi_pool.h"
#include "kernels/select_loss.h"
#include "kernels/sigmoid_cross_entropy.h"
#include "kernels/sigmoid_focal.h"
#include "kernels/smooth_l1.h"
#include "kernels/softmax_focal_loss.h"
#include "kernels/upsample_nearest.h"

using namespace detectron_ext;  // NOLINT: a program, not a header

namespace {

void Require(bool condition, const char* what, double x) {
  if (!condition) {
    std::fprintf(stderr, "%s is wrong at %.9g\n", what, x);
    std::exit(1);
  }
}

// A float of every exponent and sign with several mantissas (zeros, denormals, infinities and NaNs
// among them), round numbers, and the neighbourhoods where integer tricks on exponents could fail.
std::vector<float> Floats() {
  std::vector<float> floats;
  for (uint32_t top = 0; top < 512; ++top) {
    for (const uint32_t mantissa : {0x0u, 0x1u, 0x3504f3u, 0x400000u, 0x7ffffeu, 0x7fffffu}) {
      floats.push_back(FloatOf(static_cast<int32_t>(top << 23 | mantissa)));
    }
  }
  for (int i = -4096; i <= 4096; ++i) {
    floats.push_back(i / 32.0f);    // around 0, -1, the cuts of exponentials at 88
    floats.push_back(i * 6.0e3f);   // -2.4e7 to 2.4e7: exponents that wrap around
    floats.push_back(i * 4.0e15f);  // beyond 64-bit integers
  }
  uint32_t state = 12345;
  for (int i = 0; i < 20000; ++i) {
    state = state * 1664525u + 1013904223u;
    floats.push_back(FloatOf(static_cast<int32_t>(state)));
  }
  return floats;
}

const float kExtremes[] = {0.0f,  -0.0f, 0.3f,   -0.5f, -1.0f,  1.0f,     1e-40f,    -3.5f, 1e8f,
                           -1e8f, 1e19f, -1e19f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN};

void SweepElementary(const std::vector<float>& floats) {
  for (const float x : floats) {
    const float e = Exp(x);
    Require(std::isnan(x) == std::isnan(e), "Exp of NaN", x);
    if (x < -87.3f) {
      Require(e == 0.0f, "Exp", x);
    } else if (x <= 88.0f) {
      Require(std::fabs(e - std::exp(static_cast<double>(x))) <= 2e-7 * e, "Exp", x);
    }
    const LogParts parts = LogPartsOf(x);
    if (x >= 0 && x < 1e38f) {
      const double exact = std::log1p(static_cast<double>(x));
      Require(std::fabs(parts.log - exact) <= 5e-7 * exact, "LogPartsOf", x);
    }
  }
}

template <typename Formula>
void SweepBoxLoss(const Formula& formula, const std::vector<float>& floats) {
  for (const float x : floats) {
    const float loss = formula.Loss(x);
    const float slope = formula.Gradient(x);
    Require(std::isnan(loss) == std::isnan(x) && std::isnan(slope) == std::isnan(x), "a box loss",
            x);
    Require(x != 0 || (loss == 0 && slope == 0), "a box loss", x);
  }
}

void SweepBoxLosses(const std::vector<float>& floats) {
  for (const float beta : {1e-30f, 0.11f, 1.0f, 1e4f}) {
    SweepBoxLoss(SmoothL1{beta}, floats);
  }
  for (const double exponent : {0.01, 3.0, 1.0 * kMaxBalancedL1Exponent}) {
    for (const double beta : {0.11, 1.0, 3.0}) {
      for (const BalancedL1Formula formula :
           {BalancedL1Formula::kContinuous, BalancedL1Formula::kMmdet}) {
        SweepBoxLoss(BalancedL1(0.5, 0.5 * exponent, beta, formula), floats);
      }
    }
  }
}

template <bool kGammaTwo>
void SweepFocal(float gamma, const std::vector<float>& floats) {
  const SigmoidFocal<kGammaTwo> focal{gamma, 0.25f, 0.75f};
  for (const float x : floats) {
    for (const bool positive : {false, true}) {
      const float loss = focal.Loss(x, positive);
      focal.Gradient(x, positive);
      Require(std::isinf(x) || std::isnan(loss) == std::isnan(x), "SigmoidFocal", x);
    }
  }
}

void SweepProbabilities(const std::vector<float>& floats) {
  SweepFocal<true>(2.0f, floats);
  for (const float gamma : {0.0f, 0.5f, 3e38f}) {
    SweepFocal<false>(gamma, floats);
    const SoftmaxFocal focal{{gamma, 0.25f, 0.75f}};
    for (const float p : floats) {
      for (const int32_t label : {0, 1, std::numeric_limits<int32_t>::max()}) {
        focal.Loss(p, 1.0f - p, label);
        focal.Slope(p, 1.0f - p, label);
      }
    }
  }
  const GroupedShape shape{1, 4, static_cast<int64_t>(floats.size() / 4)};
  std::vector<float> p(floats.size()), dx(floats.size());
  GroupSoftmax(floats.data(), shape, p.data(), SerialFor);
  GroupSoftmaxGradient(p.data(), floats.data(), shape, dx.data(), SerialFor);
  const std::vector<int32_t> targets(floats.size(), 1);
  SigmoidCrossEntropy(floats.data(), targets.data(), floats.size(), SerialFor);
  SigmoidCrossEntropyGradient(floats.data(), targets.data(), floats.size(), 1.0f, dx.data(),
                              SerialFor);
}

template <typename Int>
void SweepResize(const std::vector<Int>& sizes) {
  for (const Int in : sizes) {
    for (const Int out : sizes) {
      for (const Int i : {Int(0), Int(out / 2), Int(out - 1)}) {
        Require(PoolBegin(i, in, out) >= 0 && PoolEnd(i, in, out) <= in, "PoolEnd", i);
        Require(PoolBegin(i, in, out) < PoolEnd(i, in, out), "PoolBegin", i);
        const Int nearest = NearestIndex(i, in, out);
        Require(CopiesBegin(nearest, in, out) <= i, "CopiesBegin", i);
        Require(CopiesBegin(Int(nearest + 1), in, out) > i, "CopiesBegin", i);
      }
    }
  }
}

void SweepIndices(const std::vector<float>& floats) {
  SweepResize<int64_t>({1, 2, 3, 7, 1333, (int64_t{1} << 31) - 2});
  SweepResize<int32_t>({1, 2, 3, 7, 1333, (1 << 15) - 1});  // CUDA's limit of a side
  for (const float x : floats) {
    for (const int64_t size : {int64_t{0}, int64_t{1}, int64_t{80}, int64_t{1} << 40,
                               std::numeric_limits<int64_t>::max()}) {
      const int64_t index = IndexOfFloat(x, size);
      Require(index >= -1 && index < size, "IndexOfFloat", x);
    }
  }
  for (const MapShape& map : {MapShape{2, 8, 5, 7}, MapShape{1, 3, 1, 1}, MapShape{0, 4, 0, 0}}) {
    for (const float a : kExtremes) {
      for (const float b : kExtremes) {
        for (int side = 0; side < 4; ++side) {
          float place[4] = {0, 0, 0, 0};
          place[side] = a;
          place[(side + 1) % 4] = b;
          const int64_t at = SelectedIndex(place, map);
          Require(at < map.n * map.c * map.h * map.w - 3 * map.h * map.w || at == -1,
                  "SelectedIndex", a);
        }
      }
    }
  }
}

// Every pair of extreme corners with every scale: what the checks let pass is pooled.
void SweepRegions() {
  const std::vector<float> map(2 * 4 * 5 * 7, 1.0f);
  std::vector<float> y(16), d_map(map.size());
  std::vector<int32_t> indices(16);
  int pooled = 0;
  for (const float scale : {1e-30f, 0.0625f, 1.0f, 1e12f, 3e38f}) {
    for (const float low : kExtremes) {
      for (const float high : kExtremes) {
        for (const float image : {0.0f, -0.5f, 1.5f, 2.0f, NAN}) {
          const float roi[5] = {image, low, low, high, high};
          const RoiPoolShape pool{2, 4, 5, 7, 1, 2, 2, scale};
          if (FirstBadRoi(roi, pool) < 0) {
            ++pooled;
            RoiMaxPool(map.data(), roi, pool, y.data(), indices.data(), SerialFor);
            RoiMaxPoolGradient(roi, indices.data(), y.data(), pool, d_map.data(), SerialFor);
            PositionSensitiveRoiPool(map.data(), roi, pool, 1, y.data(), indices.data(), SerialFor);
            PositionSensitiveRoiPoolGradient(roi, y.data(), pool, 1, d_map.data(), SerialFor);
          }
          for (const bool aligned : {false, true}) {
            const RoiAlignShape align{2, 4, 5, 7, 1, 5, 2, 2, 2, scale, aligned};
            if (FirstBadAlignedRoi(roi, align) < 0) {
              ++pooled;
              RoiAlign(map.data(), roi, align, y.data(), SerialFor);
              RoiAlignGradient(roi, y.data(), align, d_map.data(), SerialFor);
            }
          }
        }
      }
    }
  }
  Require(pooled > 100, "the number of usable regions", pooled);
  const float no_image[5] = {-0.5f, 0, 0, 1, 1};
  Require(FirstBadRoi(no_image, RoiPoolShape{0, 4, 5, 7, 1, 2, 2, 1.0f}) == 0, "no image", 0);
  for (const int64_t columns : {4, 5}) {
    const RoiAlignShape shape{0, 4, 5, 7, 1, columns, 2, 2, 2, 1.0f, false};
    Require(FirstBadAlignedRoi(no_image, shape) == 0, "no image", columns);
  }
}

// An anchor whose score or one of whose deltas is an extreme number gives a proposal if that number
// is finite, and then a finite one inside the image.
void SweepProposals() {
  const float cell_anchor[4] = {-8, -8, 23, 23};
  for (const float plus_one : {0.0f, 1.0f}) {
    const ProposalSettings settings{16.0f, 0, 0, 0.7f, 0.0f, plus_one};
    for (const float value : kExtremes) {
      for (int changed = 0; changed < 5; ++changed) {
        float numbers[5] = {0.9f, 0, 0, 0, 0};
        numbers[changed] = value;
        const Proposals found = MakeProposals(
            {numbers, numbers + 1, cell_anchor, 1, 1, 1, 100.0f, 120.0f, 1.0f}, settings);
        Require(std::isfinite(value) || found.size() == 0, "MakeProposals", value);
        for (int64_t i = 0; i < found.size(); ++i) {
          Require(found.x1[i] >= 0 && found.y1[i] >= 0 && found.x2[i] <= 120 && found.y2[i] <= 100,
                  "MakeProposals", value);
        }
      }
    }
    const float plain[5] = {0.9f, 0, 0, 0, 0};
    Require(MakeProposals({plain, plain + 1, cell_anchor, 1, 1, 1, 100.0f, 120.0f, 1.0f}, settings)
                    .size() == 1,
            "MakeProposals", 0);
  }
}

void SweepPlanes(const std::vector<float>& floats) {
  const PoolShape shape{2, {9, 5, 3, 2, 1}, {7, 4, 3, 2, 1}};
  std::vector<float> y(2 * 5 * 4), dx(2 * 9 * 7);
  MaxPool(floats.data(), shape, y.data(), SerialFor);
  MaxPoolGradient(floats.data(), y.data(), y.data(), shape, dx.data(), SerialFor);
  std::vector<float> relu(floats.size());
  Relu(floats.data(), floats.size(), relu.data(), SerialFor);
  ReluGradient(floats.data(), floats.data(), floats.size(), relu.data(), SerialFor);
}

}  // namespace

int main() {
  const std::vector<float> floats = Floats();
  SweepElementary(floats);
  SweepBoxLosses(floats);
  SweepProbabilities(floats);
  SweepIndices(floats);
  SweepRegions();
  SweepProposals();
  SweepPlanes(floats);
  std::puts("all swept");
  return 0;
}
