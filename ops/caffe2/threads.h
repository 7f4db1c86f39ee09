// The ParallelFor that operators hand to kernels: the thread pool of the installed Caffe2.
#pragma once

#include <ATen/Parallel.h>

#include "kernels/parallel.h"

namespace detectron_ext {

inline void ThreadPoolFor(int64_t count, const RangeBody& body) {
  at::parallel_for(0, count, /*grain_size=*/1, body);
}

}  // namespace detectron_ext
