// The vocabulary that kernel bodies are written in, so that one body builds for both machines:
//
//              host                                device
//   block      one CPU thread                      one CUDA thread block
//   pack       LANES values in vector registers    one value of each CUDA thread
//
// A body walks packs with Block::each / each_set, keeps partial sums a thread, and joins them with
// Block::sum. Included once per instruction set, inside that set's namespace (each_isa.h), or once
// by a CUDA source; hence no include guard and no standard header.

#ifdef __CUDACC__
#define FN __device__ __forceinline__
#define BODY __device__
template <class T>
using Shared = T&;  // lies in the block's shared memory
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ double name[]  // as much as the launch gives
#endif
#else
#define FN inline __attribute__((always_inline))
#define BODY __attribute__((noinline, flatten))  // all that it calls in line, lambdas too
template <class T>
using Shared = T;
#endif

using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

// Ones in the lowest `count` bits; none if it is negative.
FN u64 low_bits(int count) { return count >= 64 ? ~0ull : count <= 0 ? 0 : (1ull << count) - 1; }

// 64 bits from bit `start` on, zero outside words[0 … n).
FN u64 bits_from(const u64* words, int n, int start) {
  const int i = start >> 6, shift = start & 63;
  const u64 low = i >= 0 && i < n ? words[i] : 0;
  const u64 high = i + 1 >= 0 && i + 1 < n ? words[i + 1] : 0;
  return shift ? low >> shift | high << (64 - shift) : low;
}

#ifdef __CUDACC__

constexpr int LANES = 1;
using Floats = float;
using Ints = int;

FN Floats load(const float* p) { return *p; }
FN Ints load(const int* p) { return *p; }
FN Floats held(Floats v) { return v; }
FN Ints held(Ints v) { return v; }
FN const float* anew(const float* p) { return p; }
FN void store(float* p, Floats v) { *p = v; }
FN void store(int* p, Ints v) { *p = v; }
FN Floats to_floats(Ints v) { return float(v); }
FN Ints to_ints(Floats v) { return __float2int_rn(v); }
FN Floats magnitude(Floats v) { return fabsf(v); }
FN Ints lanes_set(u32 bits) { return int(bits & 1); }
FN u32 bits_of(Ints lanes) { return lanes & 1; }
FN float lane_sum(Floats v) { return v; }
FN int lane_sum(Ints v) { return v; }
FN float lane_min(Floats v) { return v; }
FN Ints sign(Floats v) { return (v > 0) - (v < 0); }
FN float lane(Floats v, int) { return v; }
FN int lane(Ints v, int) { return v; }

FN int count_bits(u64 word) { return __popcll(word); }
FN int lowest_bit(u64 word) { return __ffsll(i64(word)) - 1; }
FN int highest_bit(u64 word) { return 63 - __clzll(i64(word)); }
// Several threads may change bits of one word.
FN void change_bits(u64* word, u64 set, u64 clear) {
  if (set) atomicOr(word, set);
  if (clear) atomicAnd(word, ~clear);
}

struct Block {
  double* scratch;  // shared memory, one slot a warp

  FN int thread() const { return int(threadIdx.x); }
  FN int threads() const { return int(blockDim.x); }
  FN void sync() const { __syncthreads(); }

  // f(i) for each i in [0, n), shared among the threads.
  template <class F>
  FN void each(int n, F f) const {
    for (int i = thread(); i < n; i += threads()) f(i);
  }

  // f(row, column) for each cell of a grid.
  template <class F>
  FN void each(int rows, int width, F f) const {
    each(rows * width, [&](int i) { f(i / width, i % width); });
  }

  // f(i) for each set bit i of words[0 … n).
  template <class F>
  FN void each_set(const u64* words, int n, F f) const {
    each(n * 64, [&](int i) {
      if (words[i >> 6] >> (i & 63) & 1) f(i);
    });
  }

  // Of a bitmap kept by column, words[columns][height], the runs of set bits within rows
  // y … y+rows−1: f(column, first row, last row). On a GPU each bit is a run.
  template <class F>
  FN void each_run(const u64* words, int columns, int height, int y, int rows, F f) const {
    each(rows, columns, [&](int row, int column) {
      row += y;
      if (words[column * height + (row >> 6)] >> (row & 63) & 1) f(column, row, row);
    });
  }

  // Sum of every thread's value, in a fixed order; all threads get it.
  FN double sum(double value) const {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    __syncthreads();
    if (thread() % 32 == 0) scratch[thread() / 32] = value;
    __syncthreads();
    double all = 0;
    for (int warp = 0; warp < threads() / 32; ++warp) all += scratch[warp];
    return all;
  }
};

#else

constexpr int LANES = FASTSEG_LANES;

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int Ints __attribute__((vector_size(4 * LANES)));
typedef float LooseFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int LooseInts __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#if FASTSEG_LANES == 16
constexpr Ints LANE = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif FASTSEG_LANES == 8
constexpr Ints LANE = {0, 1, 2, 3, 4, 5, 6, 7};
#else
constexpr Ints LANE = {0, 1, 2, 3};
#endif

constexpr Floats half = Floats{} + 0.5f;

FN Floats load(const float* p) { return *reinterpret_cast<const LooseFloats*>(p); }
FN Ints load(const int* p) { return *reinterpret_cast<const LooseInts*>(p); }
// In a register: compilers would rather load twice than keep what is used twice.
FN Floats held(Floats v) {
#if FASTSEG_X86
  asm("" : "+v"(v));
#endif
  return v;
}
FN Ints held(Ints v) { return (Ints)held((Floats)v); }
// p, in the compiler's eyes another: what it points to is loaded anew and not kept on the stack.
FN const float* anew(const float* p) {
  asm("" : "+r"(p));
  return p;
}
FN void store(float* p, Floats v) { *reinterpret_cast<LooseFloats*>(p) = v; }
FN void store(int* p, Ints v) { *reinterpret_cast<LooseInts*>(p) = v; }
FN Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }
FN Ints to_ints(Floats v) {  // to the nearest
#if defined(__AVX512F__) && FASTSEG_LANES == 16
  return (Ints)_mm512_cvtps_epi32((__m512)v);
#elif defined(__AVX2__) && FASTSEG_LANES == 8
  return (Ints)_mm256_cvtps_epi32((__m256)v);
#else
  return __builtin_convertvector(v + (v < 0 ? -half : half), Ints);
#endif
}
FN Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }
FN Ints lanes_set(u32 bits) { return (int(bits) >> LANE & 1) != 0; }
FN float lane(Floats v, int i) { return v[i]; }
FN int lane(Ints v, int i) { return v[i]; }
FN Ints sign(Floats v) { return (v < 0) - (v > 0); }  // a comparison's true is −1
// Half on half, so that the order of the sum is a tree.
template <int N, class T>
FN T tree_sum(const T* v) {
  if constexpr (N == 1) {
    return *v;
  } else {
    typedef T Half __attribute__((vector_size(N / 2 * sizeof(T)), aligned(sizeof(T)), may_alias));
    const Half* halves = reinterpret_cast<const Half*>(v);
    const Half sum = halves[0] + halves[1];
    return tree_sum<N / 2>(reinterpret_cast<const T*>(&sum));
  }
}
FN float lane_sum(Floats v) { return tree_sum<LANES>(reinterpret_cast<const float*>(&v)); }
FN int lane_sum(Ints v) { return tree_sum<LANES>(reinterpret_cast<const int*>(&v)); }
template <int N>
FN float tree_min(const float* v) {
  if constexpr (N == 1) {
    return *v;
  } else {
    typedef float Half __attribute__((vector_size(N / 2 * 4), aligned(4), may_alias));
    const Half* halves = reinterpret_cast<const Half*>(v);
    const Half least = halves[1] < halves[0] ? halves[1] : halves[0];
    return tree_min<N / 2>(reinterpret_cast<const float*>(&least));
  }
}
FN float lane_min(Floats v) { return tree_min<LANES>(reinterpret_cast<const float*>(&v)); }
FN u32 bits_of(Ints lanes) {
#if FASTSEG_X86 && FASTSEG_LANES == 16
  return _mm512_movepi32_mask((__m512i)lanes);
#elif FASTSEG_X86 && FASTSEG_LANES == 8
  return u32(_mm256_movemask_ps((__m256)lanes));
#else
  return u32(lane_sum(lanes & (1 << LANE)));
#endif
}

FN int count_bits(u64 word) { return __builtin_popcountll(word); }
FN int lowest_bit(u64 word) { return __builtin_ctzll(word); }
FN int highest_bit(u64 word) { return 63 - __builtin_clzll(word); }
FN void change_bits(u64* word, u64 set, u64 clear) { *word = (*word | set) & ~clear; }

struct Block {
  FN int thread() const { return 0; }
  FN int threads() const { return 1; }
  FN void sync() const {}

  template <class F>
  FN void each(int n, F f) const {
    for (int i = 0; i < n; ++i) f(i);
  }

  template <class F>
  FN void each(int rows, int width, F f) const {
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < width; ++column) f(row, column);
  }

  template <class F>
  FN void each_set(const u64* words, int n, F f) const {
    for (int i = 0; i < n; ++i)
      for (u64 word = words[i]; word; word &= word - 1) f(i * 64 + lowest_bit(word));
  }

  template <class F>
  FN void each_run(const u64* words, int columns, int height, int y, int rows, F f) const {
    for (int column = 0; column < columns; ++column)
      for (int from = y; from < y + rows; from += 64) {
        const int count = y + rows - from;
        u64 bits = bits_from(words + i64(column) * height, height, from) & low_bits(count);
        while (bits) {
          const int first = lowest_bit(bits);
          const u64 beyond = ~bits & ~low_bits(first);
          const int end = beyond ? lowest_bit(beyond) : 64;
          f(column, from + first, from + end - 1);
          bits &= ~low_bits(end);
        }
      }
  }

  FN double sum(double value) const { return value; }
};

#endif
