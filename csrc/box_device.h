// Sums over squares of pixels, and at once what they are needed for, on a GPU (the host's bodies
// are in joint.h). A block has 32 × 56 pixels of one image and goes through its planes: sums down
// its columns, those across and the products with them are of three planes that follow each other,
// so that a plane has one barrier.

#ifdef __CUDACC__

constexpr int TALL = 32, ACROSS = 56, THREADS = 384, WARPS = THREADS / 32;
constexpr int RUN = 8, RUN_DOWN = 16;  // windows of neighbours in a row and in a column, a thread
constexpr int TAPS = 2 * RADIUS + 1, REACH = ACROSS + 2 * RADIUS;
constexpr int PITCH = ACROSS + 4;  // of sums: rows of a warp's lanes begin in banks of their own
constexpr int WIDE = REACH | 1;    // of sums down columns: the same, one number at a time

// Several numbers at an address that is a multiple of 16 bytes.
template <class T>
struct alignas(16) Few {
  static constexpr int COUNT = 16 / sizeof(T);
  T value[COUNT];
};

template <int N, class T>
FN void read(const T* from, T (&out)[N]) {
  constexpr int COUNT = Few<T>::COUNT;
#pragma unroll
  for (int i = 0; i < N; i += COUNT) {
    const Few<T> few = *reinterpret_cast<const Few<T>*>(from + i);
#pragma unroll
    for (int j = 0; j < COUNT; ++j) out[i + j] = few.value[j];
  }
}
template <int N, class T>
FN void write(T* to, const T (&in)[N]) {
  constexpr int COUNT = Few<T>::COUNT;
#pragma unroll
  for (int i = 0; i < N; i += COUNT) {
    Few<T> few;
#pragma unroll
    for (int j = 0; j < COUNT; ++j) few.value[j] = in[i + j];
    *reinterpret_cast<Few<T>*>(to + i) = few;
  }
}

// Whether N numbers from there on, of `left` before the row's end, can be read or written so.
template <int N, class T>
FN bool few_at_a_time(const T* row, int left) {
  return WIDTH % Few<T>::COUNT == 0 && left >= N && reinterpret_cast<u64>(row) % 16 == 0;
}

// out[i] = Σ_j at(i + j), j < TAPS: what all windows share, then what is left and right of it, so
// that nothing is ever subtracted.
template <int N, class T, class F>
FN void window_sums(T (&out)[N], F at) {
  if constexpr (TAPS < N) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      out[i] = 0;
#pragma unroll
      for (int j = 0; j < TAPS; ++j) out[i] += at(i + j);
    }
  } else {
    T middle = 0, left = 0, right = 0;
#pragma unroll 16
    for (int j = N - 1; j < TAPS; ++j) middle += at(j);
    out[N - 1] = middle;
#pragma unroll
    for (int i = N - 2; i >= 0; --i) out[i] = middle + (left += at(i));
#pragma unroll
    for (int i = 1; i < N; ++i) out[i] += right += at(TAPS - 1 + i);
  }
}

// The planes (C,height,width) of an image that squares are summed in, around the pixels from
// (top, left) on.
template <class T>
struct Squares {
  const T* planes;
  int height, top, left;

  // Of columns, (TALL,WIDE).
  FN void down(int c, T* sums) const {
    const T* plane = planes + i64(c) * height * WIDTH;
    for (int t = int(threadIdx.x); t < REACH * (TALL / RUN_DOWN); t += THREADS) {
      const int column = t % REACH, run = t / REACH * RUN_DOWN;
      const int x = left - RADIUS + column, y = top - RADIUS + run;
      const T* from = plane + i64(y) * WIDTH + x;
      T out[RUN_DOWN] = {};
      if (x >= 0 && x < WIDTH && top + run < height) {
        if (y >= 0 && y + TAPS + RUN_DOWN - 1 <= height)
          window_sums(out, [&](int i) { return from[i64(i) * WIDTH]; });
        else
          window_sums(
              out, [&](int i) { return u32(y + i) < u32(height) ? from[i64(i) * WIDTH] : T(0); });
      }
#pragma unroll
      for (int i = 0; i < RUN_DOWN; ++i) sums[(run + i) * WIDE + column] = out[i];
    }
  }

  // Of those, (TALL,PITCH), by the last threads of a block, as `down` is by the first.
  FN void across(const T* from, T* sums) const {
    for (int t = THREADS - 1 - int(threadIdx.x); t < TALL * (ACROSS / RUN); t += THREADS) {
      const int row = t % TALL, run = t / TALL * RUN;
      T out[RUN];
      window_sums(out, [&](int i) { return from[row * WIDE + run + i]; });
      write(sums + row * PITCH + run, out);
    }
  }

  // Has the memory of `sums` read by the time that it is asked for.
  FN void fetch(int c) const {
#ifdef __CUDA_ARCH__
    constexpr int LINE = 128 / sizeof(T), LINES = REACH / LINE + 1;
#pragma unroll 1
    for (int t = int(threadIdx.x); t < (TALL + 2 * RADIUS) * LINES; t += THREADS) {
      const int y = top - RADIUS + t / LINES, x = left - RADIUS + t % LINES * LINE;
      if (y >= 0 && y < height && x >= 0 && x < WIDTH)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(planes + (i64(c) * height + y) * WIDTH + x));
    }
#endif
  }

  // f(c, sums) of every plane; `memory` is twice TALL·PITCH and twice TALL·WIDE. Sums of columns
  // run two planes ahead, and first, so that products hide what their memory takes.
  template <class F>
  FN void each(int count, T* memory, F f) const {
    T* columns = memory + 2 * TALL * PITCH;
    for (int c = -2; c < count; ++c) {
      if (c + 3 < count) fetch(c + 3);
      if (c + 2 < count) down(c + 2, columns + (c + 2) % 2 * TALL * WIDE);
      if (c >= 0) f(c, memory + c % 2 * TALL * PITCH);
      if (c >= -1 && c + 1 < count)
        across(columns + (c + 1) % 2 * TALL * WIDE, memory + (c + 1) % 2 * TALL * PITCH);
      __syncthreads();
    }
  }
};

// What a thread has: OWN pixels of a row, and some of the planes that are made of the squares. A
// warp has the same planes and columns of all rows.
constexpr int OWN = 28, GROUPS = WARPS * OWN / ACROSS;  // of planes
struct Place {
  int row, column, group;
  FN Place()
      : row(int(threadIdx.x % 32)),
        column(int(threadIdx.x / 32) / GROUPS * OWN),
        group(int(threadIdx.x / 32) % GROUPS) {}

  // f(i, sum) of each of the pixels.
  template <class T, class F>
  FN void each(const T* sums, F f) const {
    constexpr int COUNT = Few<T>::COUNT;
#pragma unroll
    for (int i = 0; i < OWN; i += COUNT) {
      T few[COUNT];
      read(sums + row * PITCH + column + i, few);
#pragma unroll
      for (int j = 0; j < COUNT; ++j) f(i + j, few[j]);
    }
  }
};

// Sums over a warp, in a fixed order: lane k < N has that of value[k]. In each step lanes in pairs
// keep the sums of half of what they have.
template <int N, class T>
FN T warp_sums(const T (&value)[N]) {
  const int lane = int(threadIdx.x % 32);
  T half[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) half[k] = k < N ? value[k] : T(0);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const T kept = lane & 2 ? half[k + 2] : half[k], given = lane & 2 ? half[k] : half[k + 2];
    half[k] = kept + T(__shfl_xor_sync(0xffffffffu, given, 2));
  }
  const T kept = lane & 1 ? half[1] : half[0], given = lane & 1 ? half[0] : half[1];
  T sum = kept + T(__shfl_xor_sync(0xffffffffu, given, 1));
#pragma unroll
  for (int step = 4; step < 32; step *= 2) sum += T(__shfl_xor_sync(0xffffffffu, sum, step));
  return sum;
}

#endif
