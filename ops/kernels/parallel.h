// Splits work over threads so that the result never depends on the number of threads.
//
// A kernel cuts its range into blocks whose size is a constant of the kernel, and a thread takes
// whole blocks. So the data alone decide where a vectorised loop ends and its scalar tail begins,
// and in which order floating-point numbers are added.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

namespace detectron_ext {

// Runs body(begin, end) on disjoint ranges that cover [0, count), possibly on several threads, and
// returns when all are done. The caller of a kernel supplies it: kernels know no thread pool.
using RangeBody = std::function<void(int64_t begin, int64_t end)>;
using ParallelFor = void (*)(int64_t count, const RangeBody& body);

// The ParallelFor of a single thread.
inline void SerialFor(int64_t count, const RangeBody& body) {
  if (count > 0) {
    body(0, count);
  }
}

// Calls block_body(begin, end) for each block of at most `block` consecutive indices of
// [0, count). A thread takes the next block when it is free: equal shares would not end at the same
// time on a machine with other work.
template <typename BlockBody>
void ForEachBlock(ParallelFor parallel_for, int64_t count, int64_t block,
                  const BlockBody& block_body) {
  const int64_t num_blocks = (count + block - 1) / block;
  std::atomic<int64_t> next(0);
  parallel_for(num_blocks, [&](int64_t, int64_t) {
    for (int64_t b = next++; b < num_blocks; b = next++) {
      block_body(b * block, std::min(count, (b + 1) * block));
    }
  });
}

// Returns the sum of block_sum(begin, end) over the same blocks, added in ascending order.
// block_sum returns a double and should accumulate in doubles.
template <typename BlockSum>
double SumOverBlocks(ParallelFor parallel_for, int64_t count, int64_t block,
                     const BlockSum& block_sum) {
  std::vector<double> partial((count + block - 1) / block);
  ForEachBlock(parallel_for, count, block,
               [&](int64_t begin, int64_t end) { partial[begin / block] = block_sum(begin, end); });
  double total = 0;
  for (const double value : partial) {
    total += value;
  }
  return total;
}

}  // namespace detectron_ext
