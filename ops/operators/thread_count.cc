// Lets Python change the number of threads of a running process.
#include <ATen/Config.h>
#include <ATen/Parallel.h>

// Sets the number of threads of our operators, of OpenMP and of MKL, for the calling thread.
extern "C" __attribute__((visibility("default"))) void detectron_ext_set_num_threads(int count) {
  at::set_num_threads(count);
}
