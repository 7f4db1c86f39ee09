// Working memory that a later call uses again. The system hands out new memory page by page and
// clears it, which would take as long as a transform.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "kernels/packing.h"

namespace detectron_ext {

// Uninitialised floats as in FloatBuffer. When the object ends, the process keeps the largest buffer
// for the next object.
class KeptBuffer {
 public:
  explicit KeptBuffer(int64_t size) {
    {
      Shelf& shelf = TheShelf();
      const std::lock_guard<std::mutex> lock(shelf.mutex);
      buffer_.swap(shelf.buffer);
      std::swap(size_, shelf.size);
    }
    if (size_ < size) {
      buffer_.reset();  // before the new one is made, so that they do not exist at the same time
      size_ = 0;
      buffer_.reset(new FloatBuffer(size));
      size_ = size;
    }
  }
  ~KeptBuffer() {
    Shelf& shelf = TheShelf();
    const std::lock_guard<std::mutex> lock(shelf.mutex);
    if (size_ > shelf.size) {
      buffer_.swap(shelf.buffer);
      std::swap(size_, shelf.size);
    }
  }
  KeptBuffer(const KeptBuffer&) = delete;
  KeptBuffer& operator=(const KeptBuffer&) = delete;

  float* data() { return buffer_->data(); }

 private:
  struct Shelf {
    std::mutex mutex;
    std::unique_ptr<FloatBuffer> buffer;
    int64_t size = 0;
  };
  static Shelf& TheShelf() {
    static Shelf shelf;
    return shelf;
  }

  std::unique_ptr<FloatBuffer> buffer_;
  int64_t size_ = 0;
};

}  // namespace detectron_ext
