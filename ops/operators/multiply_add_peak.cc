// Measures how many multiplications and additions the threads do a second without reading memory.
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/simd.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

// Enough independent sums to hide the latency of two multiply-adds per cycle.
constexpr int kSums = 12;
constexpr int64_t kSteps = 1 << 21;

// Returns a value of the sums, so that the compiler cannot leave them out.
float MultiplyAdd(float factor, float term) {
  const FloatVector scale = FloatVector{} + factor;
  const FloatVector shift = FloatVector{} + term;
  FloatVector sum[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) {
    sum[i] = FloatVector{} + static_cast<float>(i);
  }
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      sum[i] = sum[i] * scale + shift;
    }
  }
  FloatVector total = sum[0];
  for (int i = 1; i < kSums; ++i) {
    total += sum[i];
  }
  return total[0];
}

}  // namespace
}  // namespace detectron_ext

// Returns multiplications and additions a second of all threads that operators use now, from one
// measurement of some 20 milliseconds.
extern "C" __attribute__((visibility("default"))) double detectron_ext_operations_per_second() {
  using detectron_ext::kSteps;
  using detectron_ext::kSums;
  const int64_t threads = at::get_num_threads();
  std::vector<float> results(threads);
  const auto started = std::chrono::steady_clock::now();
  detectron_ext::ThreadPoolFor(threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      results[i] = detectron_ext::MultiplyAdd(0.5f, 1.0f + static_cast<float>(i));
    }
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
  // The sums converge to twice the term; a wrong result would be a compiler's mistake.
  const bool right = results[0] > 1.9f * kSums && results[0] < 2.1f * kSums;
  return right ? 2.0 * kSteps * kSums * detectron_ext::kVectorWidth * threads / seconds.count()
               : 0.0;
}
