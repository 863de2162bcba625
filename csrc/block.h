// The vocabulary that kernel bodies are written in, so that one body builds for both machines:
//
//              host                                device
//   block      one CPU thread                      one CUDA thread block
//   pack       LANES values in vector registers    one value of each CUDA thread
//
// A body walks packs with Block::each / each_set, keeps partial sums a thread, and joins them with
// Block::sum. Included once per instruction set, inside that set's namespace (native.cpp), or once
// by a CUDA source; hence no include guard and no standard header.

#ifdef __CUDACC__
#define FN __device__ __forceinline__
#else
#define FN inline __attribute__((always_inline))
#endif

using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

#ifdef __CUDACC__

constexpr int LANES = 1;
using Floats = float;
using Doubles = double;
using Ints = int;

FN Floats load(const float* p) { return *p; }
FN Doubles load(const double* p) { return *p; }
FN void store(float* p, Floats v) { *p = v; }
FN void store(double* p, Doubles v) { *p = v; }
FN Floats narrow(Doubles v) { return float(v); }
FN Doubles widen(Floats v) { return double(v); }
FN Floats magnitude(Floats v) { return fabsf(v); }
FN Ints lanes_set(u32 bits) { return int(bits & 1); }
FN float lane_sum(Floats v) { return v; }
FN double lane_sum(Doubles v) { return v; }
FN int lane_sum(Ints v) { return v; }
FN Ints sign(Floats v) { return (v > 0) - (v < 0); }
FN float lane(Floats v, int) { return v; }

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

  // f(word, bit) for each set bit of words[0 … n).
  template <class F>
  FN void each_set(const u64* words, int n, F f) const {
    for (i64 i = thread(); i < i64(n) * 64; i += threads())
      if (words[i >> 6] >> (i & 63) & 1) f(int(i >> 6), int(i & 63));
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
typedef double Doubles __attribute__((vector_size(8 * LANES)));
typedef int Ints __attribute__((vector_size(4 * LANES)));
typedef float LooseFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double LooseDoubles __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

#if FASTSEG_LANES == 16
constexpr Ints LANE = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif FASTSEG_LANES == 8
constexpr Ints LANE = {0, 1, 2, 3, 4, 5, 6, 7};
#else
constexpr Ints LANE = {0, 1, 2, 3};
#endif

FN Floats load(const float* p) { return *reinterpret_cast<const LooseFloats*>(p); }
FN Doubles load(const double* p) { return *reinterpret_cast<const LooseDoubles*>(p); }
FN void store(float* p, Floats v) { *reinterpret_cast<LooseFloats*>(p) = v; }
FN void store(double* p, Doubles v) { *reinterpret_cast<LooseDoubles*>(p) = v; }
FN Floats narrow(Doubles v) { return __builtin_convertvector(v, Floats); }
FN Doubles widen(Floats v) { return __builtin_convertvector(v, Doubles); }
FN Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }
FN Ints lanes_set(u32 bits) { return (int(bits) >> LANE & 1) != 0; }
FN float lane(Floats v, int i) { return v[i]; }
FN Ints sign(Floats v) { return (v < 0) - (v > 0); }  // a comparison's true is −1
template <class Pack>
FN auto lane_sum(Pack v) {
  auto sum = v[0];
  for (int i = 1; i < LANES; ++i) sum += v[i];
  return sum;
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
  FN void each_set(const u64* words, int n, F f) const {
    for (int i = 0; i < n; ++i)
      for (u64 word = words[i]; word; word &= word - 1) f(i, lowest_bit(word));
  }

  FN double sum(double value) const { return value; }
};

#endif
