// The ParallelFor that operators hand to kernels: the thread pool of the installed Caffe2.
#pragma once

#include <ATen/Config.h>
#include <ATen/Parallel.h>
#ifndef AT_PARALLEL_OPENMP  // torch before 1.5 expects it on the command line
#include <ATen/ParallelOpenMP.h>
#endif

#include "kernels/parallel.h"
#ifdef __SANITIZE_THREAD__
#include "operators/plain_threads.h"
#endif

namespace detectron_ext {

inline void ThreadPoolFor(int64_t count, const RangeBody& body) {
#ifdef __SANITIZE_THREAD__
  // How the threads of OpenMP wait for one another is invisible to ThreadSanitizer.
  PlainThreadsFor(count, at::get_num_threads(), body);
#else
  at::parallel_for(0, count, /*grain_size=*/1, body);
#endif
}

}  // namespace detectron_ext
