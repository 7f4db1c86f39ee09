/* Tells libFuzzer which basic blocks of the operators' library run.
 *
 * GCC calls __sanitizer_cov_trace_pc in every block; libFuzzer reads counters, which atheris' copy of
 * it is given here. The places of the code are hashed into a fixed number of counters. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#define NUM_COUNTERS (1 << 16)
typedef struct {
  uintptr_t place, flags;
} Place;
static uint8_t counters[NUM_COUNTERS];
static Place places[NUM_COUNTERS];

void __sanitizer_cov_trace_pc(void) {
  const uint64_t place = (uint64_t)(uintptr_t)__builtin_return_address(0);
  ++counters[(place * 0x9E3779B97F4A7C15u) >> 48];
}

/* The functions are those of the copy of libFuzzer whose library is given. Returns 0, or 1 if it has
 * none. */
int register_counters(const char* library) {
  typedef void (*Init)(void*, void*);
  void* const handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
  const Init counters_init = handle ? (Init)dlsym(handle, "__sanitizer_cov_8bit_counters_init") : 0;
  const Init places_init = handle ? (Init)dlsym(handle, "__sanitizer_cov_pcs_init") : 0;
  if (!counters_init || !places_init) {
    return 1;
  }
  for (int i = 0; i < NUM_COUNTERS; ++i) {
    places[i].place = (uintptr_t)&places[i];
  }
  counters_init(counters, counters + NUM_COUNTERS);
  places_init(places, places + NUM_COUNTERS);
  return 0;
}
