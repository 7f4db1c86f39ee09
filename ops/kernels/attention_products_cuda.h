// Two ways to multiply the tiles of attention, with one interface.
//
// Scores: a tile of kRows x kColumns scores, added up over chunks of kScoreChunk channels. Both
// operands lie in shared memory as [channel][position], kRowStride and kColumnStride apart.
//
// Sums: kRows x kSumChannels sums, added up over chunks of kSumChunk columns of the tile. The left
// operand (weights) lies as [column][row], kWeightStride apart, the right one (values) as
// [channel][column], kValueStride apart.
//
// A thread owns kScores scores and kSums sums in registers. Its score i has the row ScoreRow(i) and
// the column ScoreColumn(i). Its sum i has the row SumRow(i) and the channel SumChannel(i).
#pragma once

#include "kernels/cuda_launch.h"
#include "kernels/elementary.h"

namespace detectron_ext {

constexpr int kAttentionRows = 64;
constexpr int kSumChannels = 256;

// Float32 multiply-adds, on any GPU: 4 x 4 scores and 8 x 8 sums a thread.
struct Float32Products {
  static constexpr int kColumns = 64;
  static constexpr int kStages = 2;
  static constexpr int kScoreChunk = 16;
  static constexpr int kRowStride = 68;
  static constexpr int kColumnStride = 68;
  static constexpr int kScores = 16;
  static constexpr int kSumChunk = 8;
  static constexpr int kWeightStride = 68;
  static constexpr int kValueStride = 9;  // odd, so that a warp's threads read different banks
  static constexpr int kSums = 64;
  static constexpr int kBlocksPerMultiprocessor = 2;
  static constexpr bool kRuns = true;

  __device__ static int ScoreRow(int i) { return threadIdx.x % 16 * 4 + i % 4; }
  __device__ static int ScoreColumn(int i) { return threadIdx.x / 16 * 4 + i / 4; }
  __device__ static int SumRow(int i) { return threadIdx.x / 32 * 8 + i % 8; }
  __device__ static int SumChannel(int i) { return threadIdx.x % 32 + i / 8 * 32; }

  __device__ __forceinline__ static float4 Four(const float* from) {
    return *reinterpret_cast<const float4*>(from);
  }

  __device__ __forceinline__ static void AddScores(const float* rows, const float* columns,
                                                   float (&scores)[kScores]) {
#pragma unroll
    for (int k = 0; k < kScoreChunk; ++k) {
      const float4 left = Four(rows + k * kRowStride + ScoreRow(0));
      const float4 right = Four(columns + k * kColumnStride + ScoreColumn(0));
      const float r[4] = {left.x, left.y, left.z, left.w};
      const float c[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
      for (int i = 0; i < kScores; ++i) {
        scores[i] += r[i % 4] * c[i / 4];
      }
    }
  }

  __device__ __forceinline__ static void AddSums(const float* weights, const float* values,
                                                 float (&sums)[kSums]) {
#pragma unroll
    for (int k = 0; k < kSumChunk; ++k) {
      const float4 left = Four(weights + k * kWeightStride + SumRow(0));
      const float4 more = Four(weights + k * kWeightStride + SumRow(4));
      const float r[8] = {left.x, left.y, left.z, left.w, more.x, more.y, more.z, more.w};
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const float value = values[SumChannel(8 * c) * kValueStride + k];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          sums[8 * c + i] += r[i] * value;
        }
      }
    }
  }
};

// Tensor cores take tf32: a float's sign, exponent and 10 bits of mantissa. A float x is the sum of
// two such numbers, high and low, up to a relative error of 2^-21. So a product a * b is
// high_a * high_b + high_a * low_b + low_a * high_b, up to an error of that size.
//
// Tensor cores truncate their sums instead of rounding them, so long sums drift towards zero.
// Therefore each chunk is summed from zero, and its sum is added to the total in float32. Warps
// form 2 x 4 tiles of 32 rows.
struct TensorProducts {
  static constexpr int kColumns = 128;
  static constexpr int kStages = 2;
  static constexpr int kScoreChunk = 32;
  // The strides are 8 modulo 32 for [k][position] and 4 modulo 32 for [position][k]. So no two
  // threads of a warp read different words of the same bank of shared memory.
  static constexpr int kRowStride = 72;
  static constexpr int kColumnStride = 136;
  static constexpr int kScores = 32;
  static constexpr int kSumChunk = 32;
  static constexpr int kWeightStride = 72;
  static constexpr int kValueStride = 36;
  static constexpr int kSums = 64;
  static constexpr int kBlocksPerMultiprocessor = 1;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  static constexpr bool kRuns = true;
#else
  static constexpr bool kRuns = false;  // kernels are left empty
#endif

  // Places in the fragments of mma.m16n8k8 (PTX ISA): group = lane / 4, member = lane % 4.
  __device__ static int Group() { return threadIdx.x % 32 / 4; }
  __device__ static int Member() { return threadIdx.x % 4; }
  __device__ static int WarpRow() { return threadIdx.x / 32 % 2 * 32; }
  __device__ static int WarpTile() { return threadIdx.x / 64; }

  // i counts elements of a fragment (4), fragments along columns or channels, then along rows.
  __device__ static int ScoreRow(int i) {
    return WarpRow() + i / 16 * 16 + Group() + i % 4 / 2 * 8;
  }
  __device__ static int ScoreColumn(int i) {
    return WarpTile() * 32 + i / 4 % 4 * 8 + 2 * Member() + i % 2;
  }
  __device__ static int SumRow(int i) { return WarpRow() + i / 32 * 16 + Group() + i % 4 / 2 * 8; }
  __device__ static int SumChannel(int i) {
    return WarpTile() * 64 + i / 4 % 8 * 8 + 2 * Member() + i % 2;
  }

  // kWords numbers, each split into two. Tensor cores ignore the bits of `low` that do not fit.
  template <int kWords>
  struct Fragment {
    uint32_t high[kWords];
    uint32_t low[kWords];

    __device__ __forceinline__ void Set(int i, float x) {
      high[i] = static_cast<uint32_t>(BitsOf(x)) & 0xffffe000u;
      low[i] = static_cast<uint32_t>(BitsOf(x - FloatOf(static_cast<int32_t>(high[i]))));
    }
  };

  __device__ __forceinline__ static void Multiply(const uint32_t (&a)[4], const uint32_t (&b)[2],
                                                  float* c) {
#if defined(DETECTRON_EXT_EMULATE_CUDA)
    EmulateMma(a, b, c);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }

  // Adds a (32 rows) x (8 kTiles columns) x (8 deep) product to `partial`: the left operand at
  // left[k * kLeftStride + row], the right one at right[k * kRightDeep + column * kRightAcross].
  template <int kTiles, int kLeftStride, int kRightDeep, int kRightAcross>
  __device__ __forceinline__ static void AddProduct(const float* left, const float* right,
                                                    float* partial) {
    Fragment<4> a[2];
    Fragment<2> b[kTiles];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int k = Member() + i / 2 * 4;
        a[m].Set(i, left[k * kLeftStride + 16 * m + Group() + i % 2 * 8]);
      }
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k = Member() + i * 4;
        b[n].Set(i, right[k * kRightDeep + (8 * n + Group()) * kRightAcross]);
      }
    }
    // The three products of a tile do not follow one another, so that none waits for the previous
    // one.
#pragma unroll
    for (int term = 0; term < 3; ++term) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          Multiply(term == 0 ? a[m].low : a[m].high, term == 1 ? b[n].low : b[n].high,
                   partial + 4 * (kTiles * m + n));
        }
      }
    }
  }

  __device__ __forceinline__ static void AddScores(const float* rows, const float* columns,
                                                   float (&scores)[kScores]) {
    float partial[kScores] = {};
#pragma unroll 2
    for (int k = 0; k < kScoreChunk; k += 8) {
      AddProduct<4, kRowStride, kColumnStride, 1>(rows + k * kRowStride + WarpRow(),
                                                  columns + k * kColumnStride + WarpTile() * 32,
                                                  partial);
    }
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      scores[i] += partial[i];
    }
  }

  __device__ __forceinline__ static void AddSums(const float* weights, const float* values,
                                                 float (&sums)[kSums]) {
    float partial[kSums] = {};
#pragma unroll 2
    for (int k = 0; k < kSumChunk; k += 8) {
      AddProduct<8, kWeightStride, 1, kValueStride>(weights + k * kWeightStride + WarpRow(),
                                                    values + WarpTile() * 64 * kValueStride + k,
                                                    partial);
    }
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      sums[i] += partial[i];
    }
  }
};

}  // namespace detectron_ext
