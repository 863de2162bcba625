// Sums over squares of pixels, and at once what they are needed for, on a GPU (the host's bodies are
// in joint.h). A block has 32 × 64 pixels of one image and goes through its planes: sums down its
// columns, those across and the products with them are of three planes that follow each other, so
// that a plane has one barrier.

#ifdef __CUDACC__

constexpr int TALL = 32, ACROSS = 64, THREADS = 512, WARPS = THREADS / 32;
constexpr int RUN = 8;             // neighbours that a thread sums the windows of
constexpr int PITCH = ACROSS + 4;  // of sums: rows of a warp's lanes begin in banks of their own

// Several numbers at an address that is a multiple of 16 bytes.
template <class T>
struct alignas(16) Few {
  static constexpr int COUNT = 16 / sizeof(T);
  T value[COUNT];
};

// N numbers of a row that has `left` of them: zero behind its end.
template <int N, class T>
FN void read(const T* from, int left, T (&out)[N]) {
  constexpr int COUNT = Few<T>::COUNT;
  if (left >= N && reinterpret_cast<u64>(from) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += COUNT) {
      const Few<T> few = *reinterpret_cast<const Few<T>*>(from + i);
#pragma unroll
      for (int j = 0; j < COUNT; ++j) out[i + j] = few.value[j];
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = i < left ? from[i] : T(0);
  }
}
template <int N, class T>
FN void write(T* to, int left, const T (&in)[N]) {
  constexpr int COUNT = Few<T>::COUNT;
  if (left >= N && reinterpret_cast<u64>(to) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += COUNT) {
      Few<T> few;
#pragma unroll
      for (int j = 0; j < COUNT; ++j) few.value[j] = in[i + j];
      *reinterpret_cast<Few<T>*>(to + i) = few;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < left) to[i] = in[i];
  }
}

// out[i] = Σ_j at(i + j), j < taps: what all windows share, then what is left and right of it, so
// that nothing is ever subtracted.
template <class T, class F>
FN void window_sums(int taps, T (&out)[RUN], F at) {
  if (taps < RUN) {
#pragma unroll
    for (int i = 0; i < RUN; ++i) {
      out[i] = 0;
      for (int j = 0; j < taps; ++j) out[i] += at(i + j);
    }
    return;
  }
  T middle = 0, left = 0, right = 0;
#pragma unroll 4
  for (int j = RUN - 1; j < taps; ++j) middle += at(j);
  out[RUN - 1] = middle;
#pragma unroll
  for (int i = RUN - 2; i >= 0; --i) out[i] = middle + (left += at(i));
#pragma unroll
  for (int i = 1; i < RUN; ++i) out[i] += right += at(taps - 1 + i);
}

// The planes (C,height,width) of an image that squares are summed in, around the pixels from
// (top, left) on.
template <class T>
struct Squares {
  const T* planes;
  int height, width, radius, top, left;

  FN int wide() const { return (ACROSS + 2 * radius) | 1; }  // odd: no two rows in the same banks

  // Of columns, (TALL,wide).
  FN void down(int c, T* sums) const {
    const T* plane = planes + i64(c) * height * width;
    const int columns = ACROSS + 2 * radius;
    for (int t = int(threadIdx.x); t < columns * (TALL / RUN); t += THREADS) {
      const int column = t % columns, run = t / columns * RUN, x = left - radius + column;
      const int y = top - radius + run;
      const T* from = plane + i64(y) * width + x;
      T out[RUN] = {};
      if (x >= 0 && x < width && top + run < height)
        window_sums(2 * radius + 1, out,
                    [&](int i) { return u32(y + i) < u32(height) ? from[i64(i) * width] : T(0); });
#pragma unroll
      for (int i = 0; i < RUN; ++i) sums[(run + i) * wide() + column] = out[i];
    }
  }

  // Of those, (TALL,PITCH), by the last threads of a block, as `down` is by the first.
  FN void across(const T* from, T* sums) const {
    for (int t = THREADS - 1 - int(threadIdx.x); t < TALL * (ACROSS / RUN); t += THREADS) {
      const int row = t % TALL, run = t / TALL * RUN;
      const T* begin = from + row * wide() + run;
      T out[RUN];
      window_sums(2 * radius + 1, out, [&](int i) { return begin[i]; });
      write(sums + row * PITCH + run, RUN, out);
    }
  }

  // Has the memory of `sums` read by the time that it is asked for.
  FN void fetch(int c) const {
#ifdef __CUDA_ARCH__
    constexpr int LINE = 128 / sizeof(T);
    const int rows = TALL + 2 * radius, lines = (ACROSS + 2 * radius) / LINE + 1;
    for (int t = int(threadIdx.x); t < rows * lines; t += THREADS) {
      const int y = top - radius + t / lines, x = left - radius + t % lines * LINE;
      if (y >= 0 && y < height && x >= 0 && x < width)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(planes + (i64(c) * height + y) * width + x));
    }
#endif
  }

  // f(c, sums) of every plane; `memory` is twice TALL·wide and twice TALL·PITCH.
  template <class F>
  FN void each(int count, T* memory, F f) const {
    T* columns = memory + 2 * TALL * PITCH;
    fetch(1 < count ? 1 : 0);
    down(0, columns);
    __syncthreads();
    for (int c = 0; c < count; ++c) {
      T* sums = memory + c % 2 * TALL * PITCH;
      if (c + 2 < count) fetch(c + 2);
      if (c + 1 < count) down(c + 1, columns + (c + 1) % 2 * TALL * wide());
      across(columns + c % 2 * TALL * wide(), sums);
      __syncthreads();
      f(c, sums);
    }
  }
};

// What a thread has: N pixels of a row, and OWN of the planes that are made of the squares. A warp
// has the same planes and columns of all rows.
template <int N>
struct Place {
  static constexpr int GROUPS = WARPS * N / ACROSS;  // of planes
  int row, column, group;
  FN Place()
      : row(int(threadIdx.x % 32)),
        column(int(threadIdx.x / 32) / GROUPS * N),
        group(int(threadIdx.x / 32) % GROUPS) {}
};

// Σ over a warp, in a fixed order.
template <class T>
FN T warp_sum(T value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

#endif
