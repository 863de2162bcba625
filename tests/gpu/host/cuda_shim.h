// Compiles CUDA C++ for the CPU: a block runs, threads and barriers and all, and blocks follow one
// another. Its threads are fibers on one CPU thread, which change places where a block or a warp
// waits alone, in an order that the launch chooses: what depends on the order is a race. With
// SHIM_THREADS they are threads, for ThreadSanitizer.

#pragma once
#include <pthread.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#define __CUDACC__
#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static
#define DYNAMIC_SHARED(name) double* const name = shim::dynamic_shared

struct Dim {
  unsigned x;
};

namespace shim {

enum Place { RUNNING, BARRIER, WARP, ENDED };

inline double* dynamic_shared;

#ifdef SHIM_THREADS

thread_local Dim thread;
inline pthread_barrier_t barrier;
inline std::vector<pthread_barrier_t> warp_barriers;
inline void wait(Place place) {
  pthread_barrier_wait(place == WARP ? &warp_barriers[thread.x / 32] : &barrier);
}

#else

struct Fiber {
  ucontext_t start;
  jmp_buf at;
  bool started = false;
  Place place = RUNNING;
  std::vector<char> stack = std::vector<char>(1 << 16);
};
inline Dim thread;
inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline jmp_buf back;
inline const std::function<void()>* body;

__attribute__((noinline)) inline void wait(Place place) {
  fibers[thread.x].place = place;
  if (!_setjmp(fibers[thread.x].at)) _longjmp(back, 1);
}

inline void begin() {
  (*body)();
  fibers[thread.x].place = ENDED;
  _longjmp(back, 1);
}

// On with one fiber, until it waits or ends.
__attribute__((noinline)) inline void resume(unsigned i) {
  thread.x = i;
  if (_setjmp(back)) return;
  if (std::exchange(fibers[i].started, true)) _longjmp(fibers[i].at, 1);
  getcontext(&fibers[i].start);
  fibers[i].start.uc_stack = {fibers[i].stack.data(), 0, fibers[i].stack.size()};
  makecontext(&fibers[i].start, begin, 0);
  setcontext(&fibers[i].start);
}

// Lets go the warps whose threads all wait for one another; if no thread can go on, the block.
// False when all have ended.
inline bool go_on() {
  const auto in = [](Place place) {
    return [place](const Fiber& fiber) { return fiber.place == place; };
  };
  const auto begin = fibers.begin(), end = fibers.end();
  for (std::ptrdiff_t at = 0; at < end - begin; at += 32) {
    const auto from = begin + at, to = begin + std::min(at + 32, end - begin);
    if (std::all_of(from, to, in(WARP)))
      for (auto fiber = from; fiber != to; ++fiber) fiber->place = RUNNING;
  }
  if (std::any_of(begin, end, in(RUNNING))) return true;
  if (std::all_of(begin, end, in(ENDED))) return false;
  if (!std::all_of(begin, end, in(BARRIER))) {
    std::fprintf(stderr, "threads of a block wait at different barriers\n");
    std::abort();
  }
  for (Fiber& fiber : fibers) fiber.place = RUNNING;
  return true;
}

#endif

inline Dim block, block_size, grid_size;
inline std::vector<double> lanes;

// Every thread of a block, to its end.
inline void run_block(int threads, [[maybe_unused]] int order, const std::function<void()>& call) {
  lanes.assign(threads, 0);
#ifdef SHIM_THREADS
  pthread_barrier_init(&barrier, nullptr, threads);
  warp_barriers.resize((threads + 31) / 32);
  for (int w = 0; w < int(warp_barriers.size()); ++w)
    pthread_barrier_init(&warp_barriers[w], nullptr, std::min(32, threads - 32 * w));
  std::vector<std::thread> crew;
  for (unsigned i = 0; i < unsigned(threads); ++i)
    crew.emplace_back([&, i] { thread.x = i, call(); });
  for (std::thread& member : crew) member.join();
  pthread_barrier_destroy(&barrier);
#else
  fibers.resize(threads);
  for (Fiber& fiber : fibers) fiber.started = false, fiber.place = RUNNING;
  body = &call;
  unsigned random = order;
  while (go_on()) {
    // Forwards, backwards, or from a random thread on by an odd step.
    random = random * 1664525 + 1013904223;
    const unsigned first = order < 2 ? 0 : random >> 8, step = order < 2 ? 1 : random >> 16 | 1;
    for (unsigned k = 0; k < unsigned(threads); ++k) {
      const unsigned i = order == 1 ? threads - 1 - k : (first + k * step) % threads;
      if (fibers[i].place == RUNNING) resume(i);
    }
  }
#endif
}

// kernel<<<grid, threads>>>(*arguments…), as cuLaunchKernel gets them.
template <class... A, std::size_t... I>
void launch(void (*kernel)(A...), int grid, int threads, double* shared, int order,
            void** arguments, std::index_sequence<I...>) {
  dynamic_shared = shared;
  const std::function<void()> call = [&] { kernel(*static_cast<A*>(arguments[I])...); };
  block_size.x = threads, grid_size.x = grid;
  for (block.x = 0; block.x < grid_size.x; ++block.x) run_block(threads, order, call);
}
template <class... A>
void launch(void (*kernel)(A...), int grid, int threads, double* shared, int order,
            void** arguments) {
  launch(kernel, grid, threads, shared, order, arguments, std::index_sequence_for<A...>{});
}

// A letter an argument, as in NumPy's `dtype.char`, P for an address.
template <class T>
constexpr char letter = 0;
template <class T>
constexpr char letter<T*> = 'P';
template <>
inline constexpr char letter<int> = 'i';
template <>
inline constexpr char letter<long long> = 'q';
template <>
inline constexpr char letter<float> = 'f';
template <>
inline constexpr char letter<double> = 'd';
template <class... A>
const char* letters(void (*)(A...)) {
  static const char all[] = {letter<A>..., 0};
  return all;
}

}  // namespace shim

#define threadIdx shim::thread
#define blockIdx shim::block
#define blockDim shim::block_size
#define gridDim shim::grid_size

inline void __syncthreads() { shim::wait(shim::BARRIER); }

namespace shim {
// What thread `from` gives.
inline double exchange(double value, unsigned from) {
  lanes[thread.x] = value;
  wait(WARP);
  const double other = lanes[from];
  wait(WARP);
  return other;
}
}  // namespace shim
inline double __shfl_xor_sync(unsigned, double value, int step) {
  return shim::exchange(value, threadIdx.x ^ step);
}
inline int __shfl_sync(unsigned, int value, int lane) {
  return int(shim::exchange(value, threadIdx.x / 32 * 32 + lane));
}
inline int __shfl_up_sync(unsigned, int value, int step) {
  return int(shim::exchange(value, threadIdx.x - (int(threadIdx.x % 32) < step ? 0 : step)));
}

inline void __syncwarp() { shim::wait(shim::WARP); }
inline unsigned __ballot_sync(unsigned, bool set) {
  const unsigned lane = threadIdx.x % 32, first = threadIdx.x - lane;
  shim::lanes[threadIdx.x] = set;
  shim::wait(shim::WARP);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32 && first + i < blockDim.x; ++i)
    bits |= unsigned(shim::lanes[first + i] != 0) << i;
  shim::wait(shim::WARP);
  return bits;
}

template <class T>
T atomicOr(T* word, T bits) {
  return __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
}
template <class T>
T atomicAnd(T* word, T bits) {
  return __atomic_fetch_and(word, bits, __ATOMIC_RELAXED);
}
inline int atomicAdd(int* word, int value) {
  return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}
inline int atomicMin(int* word, int value) {
  int old = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (value < old && !__atomic_compare_exchange_n(word, &old, value, true, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED)) {
  }
  return old;
}
inline int atomicMax(int* word, int value) {
  int old = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (value > old && !__atomic_compare_exchange_n(word, &old, value, true, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED)) {
  }
  return old;
}
inline int __ldcg(const int* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
// The number that half precision has in `bits`.
#define FLOAT_OF_HALF(value, bits) value = shim::float_of_half(bits)
namespace shim {
inline float float_of_half(unsigned bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
  return sign * std::ldexp(float(fraction + (exponent ? 1024 : 0)), (exponent ? exponent : 1) - 25);
}
}  // namespace shim
inline int __popcll(unsigned long long word) { return __builtin_popcountll(word); }
inline int __ffsll(long long word) { return __builtin_ffsll(word); }
inline int __clzll(long long word) { return word ? __builtin_clzll(word) : 64; }
inline int __float2int_rn(float value) {
  return std::isnan(value) ? 0 : int(std::nearbyint(value));
}

// What Python launches a kernel by.
#define LAUNCHABLE(kernel)                                                          \
  extern "C" const char* kernel##_letters() { return shim::letters(kernel); }       \
  extern "C" void kernel##_launch(int grid, int threads, double* shared, int order, \
                                  void** arguments) {                               \
    shim::launch(kernel, grid, threads, shared, order, arguments);                  \
  }
