// Softmax over groups of neighbouring channels, at every position of a map, and its gradient.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/elementary.h"
#include "kernels/parallel.h"

namespace detectron_ext {

// A map (N, A * K, H, W): groups = N * A, classes = K, positions = H * W.
struct GroupedShape {
  int64_t groups;
  int64_t classes;
  int64_t positions;
};

constexpr int64_t kSoftmaxRun = 256;  // positions processed together

// Returns the number of runs of positions in a group.
inline int64_t RunsInGroup(const GroupedShape& shape) {
  return (shape.positions + kSoftmaxRun - 1) / kSoftmaxRun;
}

// Calls run(group, first position, length) for all runs of positions of all groups.
template <typename Run>
void ForEachGroupRun(const GroupedShape& shape, ParallelFor parallel_for, const Run& run) {
  const int64_t runs = RunsInGroup(shape);
  ForEachBlock(parallel_for, shape.groups * runs, 1, [&](int64_t index, int64_t) {
    const int64_t first = index % runs * kSoftmaxRun;
    run(index / runs, first, std::min(kSoftmaxRun, shape.positions - first));
  });
}

// Writes p, the softmax of x over the classes of each group at each position.
inline void GroupSoftmax(const float* x, const GroupedShape& shape, float* p,
                         ParallelFor parallel_for) {
  ForEachGroupRun(shape, parallel_for, [=](int64_t group, int64_t first, int64_t length) {
    const int64_t start = group * shape.classes * shape.positions + first;
    float largest[kSoftmaxRun];
    float sum[kSoftmaxRun] = {};
    std::copy(x + start, x + start + length, largest);
    for (int64_t c = 1; c < shape.classes; ++c) {
      const float* row = x + start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        largest[i] = largest[i] < row[i] ? row[i] : largest[i];
      }
    }
    for (int64_t c = 0; c < shape.classes; ++c) {
      const float* from = x + start + c * shape.positions;
      float* to = p + start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        const float e = Exp(from[i] - largest[i]);
        to[i] = e;
        sum[i] += e;
      }
    }
    for (int64_t c = 0; c < shape.classes; ++c) {
      float* to = p + start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        to[i] /= sum[i];
      }
    }
  });
}

// dx = p * (dp - sum over the group of p * dp).
//
// Every dp is taken relative to the dp of the most probable class. Otherwise dp and the sum would
// cancel where p is nearly 1.
inline void GroupSoftmaxGradient(const float* p, const float* dp, const GroupedShape& shape,
                                 float* dx, ParallelFor parallel_for) {
  ForEachGroupRun(shape, parallel_for, [=](int64_t group, int64_t first, int64_t length) {
    const int64_t start = group * shape.classes * shape.positions + first;
    float largest[kSoftmaxRun];
    float base[kSoftmaxRun];
    float sum[kSoftmaxRun] = {};
    std::copy(p + start, p + start + length, largest);
    std::copy(dp + start, dp + start + length, base);
    for (int64_t c = 1; c < shape.classes; ++c) {
      const int64_t at = start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        const bool larger = largest[i] < p[at + i];
        largest[i] = larger ? p[at + i] : largest[i];
        base[i] = larger ? dp[at + i] : base[i];
      }
    }
    for (int64_t c = 0; c < shape.classes; ++c) {
      const int64_t at = start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        sum[i] += p[at + i] * (dp[at + i] - base[i]);
      }
    }
    for (int64_t c = 0; c < shape.classes; ++c) {
      const int64_t at = start + c * shape.positions;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) {
        dx[at + i] = p[at + i] * ((dp[at + i] - base[i]) - sum[i]);
      }
    }
  });
}

}  // namespace detectron_ext
