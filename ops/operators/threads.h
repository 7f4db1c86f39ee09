// The ParallelFor that operators hand to kernels: the thread pool of the installed Caffe2.
#pragma once

#include <ATen/Config.h>
#include <ATen/Parallel.h>
#ifndef AT_PARALLEL_OPENMP  // torch before 1.5 expects it on the command line
#include <ATen/ParallelOpenMP.h>
#endif

#include "kernels/parallel.h"
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __SANITIZE_THREAD__
#include "operators/plain_threads.h"
#endif

namespace detectron_ext {

// While an object of this class exists, what the calling thread starts through OpenMP, such as
// oneDNN, runs on this thread alone.
class OneThread {
 public:
#ifdef _OPENMP
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
#else
  OneThread() = default;
#endif
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

#ifdef _OPENMP
 private:
  const int before_;
#endif
};

inline void ThreadPoolFor(int64_t count, const RangeBody& body) {
#ifdef __SANITIZE_THREAD__
  // How the threads of OpenMP wait for one another is invisible to ThreadSanitizer.
  PlainThreadsFor(count, at::get_num_threads(), body);
#else
  at::parallel_for(0, count, /*grain_size=*/1, body);
#endif
}

}  // namespace detectron_ext
