// Writes a tensor from its start to its end, in whole cache lines.
//
// A vector may reach past the end of a row: what follows the row is written later, and then
// overwrites the rest of the vector. A tensor that is larger than the caches is written past them.
// An ordinary store first reads the line that it is about to overwrite, which is a third of the
// traffic of a copy.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/copy_floats.h"
#include "kernels/packing.h"
#include "kernels/simd.h"

namespace detectron_ext {

// Stores a vector past the caches. `to` is aligned to the size of a vector.
inline void StoreVectorPastCaches(float* to, FloatVector value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, (__m512)value);
#elif defined(__AVX__)
  _mm256_stream_ps(to, (__m256)value);
#elif defined(__x86_64__)
  _mm_stream_ps(to, (__m128)value);
#else
  StoreVector(to, value);
#endif
}

// Makes the stores past the caches visible before the thread's next stores.
inline void FinishStoresPastCaches() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Floats of a tensor that is written past the caches: 8 MB. A smaller one is often still in the last
// cache when the next operator reads it.
constexpr int64_t kPastCachesFloats = int64_t{2} << 20;

class LineStream {
 public:
  // capacity: the largest number of floats between two calls of Advance.
  // past_caches: whether whole lines are stored past the caches.
  LineStream(int64_t capacity, bool past_caches)
      : past_caches_(past_caches),
        reach_(capacity + kSlack),
        buffer_(kCollected + capacity + kSlack) {}

  // The next floats go to `to`. Up to `end`, what lies behind them can be overwritten before Next is
  // called again.
  void Start(float* to, const float* end) {
    last_ = end;
    begin_ = past_caches_ ? Misalignment(to) : 0;
    end_ = begin_;
    to_ = to - begin_;
    SetNext();
  }

  // Where the next floats belong. kSlack floats behind the capacity can be overwritten.
  float* Next() { return next_; }

  // Takes `count` floats from Next() on as written.
  void Advance(int64_t count) {
    if (past_caches_) {
      end_ += count;
      if (end_ >= kCollected) {
        WriteLines();
      }
    } else {
      if (next_ != to_) {
        CopyFloats(next_, count, to_);
      }
      to_ += count;
    }
    SetNext();
  }

  // Writes the rest. Start can be called again.
  void Finish() {
    if (past_caches_) {
      WriteLines();
      CopyFloats(buffer_.data() + begin_, end_ - begin_, to_ + begin_);
      FinishStoresPastCaches();
    }
  }

  static constexpr int64_t kSlack = 4 * kVectorWidth;

 private:
  static constexpr int64_t kLine = 16;
  // Floats that are collected before lines are written. A processor waits if it reads what it has
  // just stored at other borders of vectors.
  static constexpr int64_t kCollected = 512;

  // The number of floats from the start of the cache line to `to`.
  static int64_t Misalignment(const float* to) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) / sizeof(float) % kLine);
  }

  // Stores within the caches go to their place at once, except near the end, where the next floats
  // belong to another thread.
  void SetNext() {
    next_ = past_caches_ ? buffer_.data() + end_ : last_ - to_ >= reach_ ? to_ : buffer_.data();
  }

  void WriteLines() {
    const int64_t whole = end_ / kLine * kLine;
    int64_t i = 0;
    if (begin_ > 0 && whole > 0) {  // the first line belongs to this stream only in part
      CopyFloats(buffer_.data() + begin_, kLine - begin_, to_ + begin_);
      i = kLine;
      begin_ = 0;
    }
    for (; i < whole; i += kVectorWidth) {
      StoreVectorPastCaches(to_ + i, LoadVector(buffer_.data() + i));
    }
    to_ += whole;
    end_ -= whole;
    for (int64_t rest = 0; rest < end_; rest += kVectorWidth) {
      StoreVector(buffer_.data() + rest, LoadVector(buffer_.data() + whole + rest));
    }
  }

  const bool past_caches_;
  const int64_t reach_;  // the most floats from Next() on that are overwritten
  FloatBuffer buffer_;
  float* next_ = nullptr;
  const float* last_ = nullptr;  // behind the last float that can be overwritten
  float* to_ = nullptr;  // the place of the next float; past the caches, of the buffer's first one
  int64_t begin_ = 0;    // the first float of the buffer that belongs to this stream
  int64_t end_ = 0;
};

}  // namespace detectron_ext
