// A ParallelFor of threads of the C++ library, whose start and end ThreadSanitizer understands.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include "kernels/parallel.h"

namespace detectron_ext {

// Runs body on equal shares of [0, count), each in a thread of its own, and rethrows the exception of
// the first share that had one.
inline void PlainThreadsFor(int64_t count, int64_t num_threads, const RangeBody& body) {
  const int64_t shares = std::min(count, std::max<int64_t>(num_threads, 1));
  std::vector<std::exception_ptr> errors(std::max<int64_t>(shares, 0));
  std::vector<std::thread> threads;
  for (int64_t share = 0; share < shares; ++share) {
    threads.emplace_back([&, share] {
      try {
        body(share * count / shares, (share + 1) * count / shares);
      } catch (...) {
        errors[share] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::exception_ptr& error : errors) {
    if (error) {
      std::rethrow_exception(error);
    }
  }
}

}  // namespace detectron_ext
