// What the C functions around the CUDA kernels share: exceptions become a status and a message.
#pragma once

#include <exception>
#include <string>

namespace detectron_ext {

// The message of this thread's last call that failed.
inline std::string& LastCudaError() {
  thread_local std::string message;
  return message;
}

// Calls body(). Returns 0, or 1 after keeping the message of the exception that it threw.
template <typename Body>
int Guarded(const Body& body) {
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    LastCudaError() = error.what();
    return 1;
  }
}

}  // namespace detectron_ext
