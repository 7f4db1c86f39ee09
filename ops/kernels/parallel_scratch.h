// ForEachBlock for kernels that need working memory: each thread makes its own once.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels/parallel.h"

namespace detectron_ext {

// Calls block_body(begin, end, scratch) for the blocks of ForEachBlock. `scratch` is what
// make_scratch() returned to this thread. A body must not read what another block left there:
// which blocks share it depends on the threads.
template <typename MakeScratch, typename BlockBody>
void ForEachBlockWithScratch(ParallelFor parallel_for, int64_t count, int64_t block,
                             const MakeScratch& make_scratch, const BlockBody& block_body) {
  const int64_t num_blocks = (count + block - 1) / block;
  std::atomic<int64_t> next(0);
  parallel_for(num_blocks, [&](int64_t, int64_t) {
    auto scratch = make_scratch();
    for (int64_t b = next++; b < num_blocks; b = next++) {
      block_body(b * block, std::min(count, (b + 1) * block), scratch);
    }
  });
}

}  // namespace detectron_ext
