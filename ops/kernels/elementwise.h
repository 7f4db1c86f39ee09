// Element-wise arithmetic of activations and of the optimizer.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

constexpr int64_t kElementwiseBlock = 16384;  // elements of one block of work

// y = max(x, 0). A NaN stays NaN. y may be x.
inline void Relu(const float* x, int64_t size, float* y, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kElementwiseBlock, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      y[i] = x[i] < 0 ? 0.0f : x[i];
    }
  });
}

// dx = dy where y > 0, else 0. dx may be y or dy.
inline void ReluGradient(const float* y, const float* dy, int64_t size, float* dx,
                         ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kElementwiseBlock, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float slope = dy[i];  // always loaded: a branch would prevent vector code
      dx[i] = y[i] > 0 ? slope : 0.0f;
    }
  });
}

// y = x[0] + x[1] + ... over count >= 2 arrays; y may be x[0] or x[1].
inline void Add(const float* const* x, int count, int64_t size, float* y,
                ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kElementwiseBlock, [=](int64_t begin, int64_t end) {
    const float* a = x[0];
    const float* b = x[1];
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      y[i] = a[i] + b[i];
    }
    for (int k = 2; k < count; ++k) {
      const float* more = x[k];
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        y[i] += more[i];
      }
    }
  });
}

// y = weight[0] * x[0] + weight[1] * x[1] + ... over count >= 1 arrays; y may be x[0].
inline void AddWeighted(const float* const* x, const float* weight, int count, int64_t size,
                        float* y, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kElementwiseBlock, [=](int64_t begin, int64_t end) {
    const float* a = x[0];
    const float wa = weight[0];
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      y[i] = wa * a[i];
    }
    for (int k = 1; k < count; ++k) {
      const float* more = x[k];
      const float w = weight[k];
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        y[i] += w * more[i];
      }
    }
  });
}

struct MomentumSgd {
  float learning_rate;
  float momentum;
  bool nesterov;
};

// velocity' = momentum * velocity + learning_rate * gradient;
// step = velocity', or with Nesterov's look-ahead (1 + momentum) velocity' - momentum velocity;
// parameter -= step. Any output may be the input of the same meaning; `step` may be `gradient`.
inline void MomentumSgdUpdate(const float* gradient, const float* velocity, int64_t size,
                              const MomentumSgd& rule, float* step, float* new_velocity,
                              float* parameter, ParallelFor parallel_for) {
  ForEachBlock(parallel_for, size, kElementwiseBlock, [=](int64_t begin, int64_t end) {
    const float rate = rule.learning_rate;
    const float momentum = rule.momentum;
    if (rule.nesterov) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const float old = velocity[i];
        const float fresh = momentum * old + rate * gradient[i];
        const float change = (1 + momentum) * fresh - momentum * old;
        new_velocity[i] = fresh;
        step[i] = change;
        parameter[i] -= change;
      }
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const float fresh = momentum * velocity[i] + rate * gradient[i];
        new_velocity[i] = fresh;
        step[i] = fresh;
        parameter[i] -= fresh;
      }
    }
  });
}

}  // namespace detectron_ext
