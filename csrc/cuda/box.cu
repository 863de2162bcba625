// Products of label fields with sums over squares of others, on a GPU: a block a tile of an image
// (box_device.h).

#include "block.h"
//
#include "box_device.h"

#ifndef PLANES  // of a thread that mixes; the launcher takes as few as serve all at once
#define PLANES 6
#endif

constexpr int PIXELS = 16;  // of such a thread; one that joins has half as many planes, of twice so

// As many as registers hold.
template <class T>
constexpr int OWN = sizeof(T) == 8 && PLANES > 3 ? 3 : PLANES;
template <class T>
constexpr int JOINED = (OWN<T> + 1) / 2;

struct Sizes {
  int classes, others, height, width, radius;
};

// The job's part: OWN planes for each group, of a tile of an image.
template <int N, int PER_THREAD, class T>
struct Job {
  i64 tile, image;
  int first;  // of the thread's planes
  Place<N> place;
  Squares<T> squares;  // of the other field

  FN Job(i64 job, const Sizes& sizes, const T* others) {
    const int across = (sizes.width + ACROSS - 1) / ACROSS;
    const i64 tiles = i64((sizes.height + TALL - 1) / TALL) * across;
    const int passes = (sizes.classes - 1) / (PER_THREAD * Place<N>::GROUPS) + 1;
    tile = job / passes, image = tile / tiles;
    first = (int(job % passes) * Place<N>::GROUPS + place.group) * PER_THREAD;
    squares = {others + image * sizes.others * sizes.height * sizes.width,
               sizes.height,
               sizes.width,
               sizes.radius,
               int(tile % tiles / across) * TALL,
               int(tile % tiles % across) * ACROSS};
  }

  // How many of the thread's pixels are in the image, and where they begin in its planes.
  FN int left() const {
    return squares.top + place.row < squares.height ? squares.width - squares.left - place.column
                                                    : 0;
  }
  FN i64 begin() const {
    return i64(squares.top + place.row) * squares.width + squares.left + place.column;
  }
};

// parts (tiles of all images, ACROSS/N, K, L): p (B,K,height,width) times the sums over squares of
// q (B,L,height,width).
template <class T>
FN void join(const T* p, const T* q, const Sizes& sizes, i64 jobs, T* parts, T* memory) {
  constexpr int N = 2 * PIXELS, OWNED = JOINED<T>;
  for (i64 i = blockIdx.x; i < jobs; i += gridDim.x) {
    const Job<N, OWNED, T> job(i, sizes, q);
    const i64 size = i64(sizes.height) * sizes.width;
    T own[OWNED][N];
#pragma unroll
    for (int k = 0; k < OWNED; ++k)
      read(p + (job.image * sizes.classes + job.first + k) * size + job.begin(),
           job.first + k < sizes.classes ? job.left() : 0, own[k]);
    T* part = parts + (job.tile * (ACROSS / N) + job.place.column / N) * sizes.classes * sizes.others;
    job.squares.each(sizes.others, memory, [&](int l, const T* sums) {
      T sum[OWNED] = {};
#pragma unroll
      for (int i = 0; i < N; i += 4) {
        T few[4];
        read(sums + job.place.row * PITCH + job.place.column + i, 4, few);
#pragma unroll
        for (int k = 0; k < OWNED; ++k)
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[k] += own[k][i + j] * few[j];
      }
#pragma unroll
      for (int k = 0; k < OWNED; ++k) {
        const T whole = warp_sum(sum[k]);
        if (job.place.row == 0 && job.first + k < sizes.classes)
          part[i64(job.first + k) * sizes.others + l] = whole;
      }
    });
  }
}

// out (B,K,height,width) = Σ_l weights[k,l]·(sums over squares of q (B,L,height,width)).
template <class T>
FN void mix(const T* weights, const T* q, const Sizes& sizes, i64 jobs, T* out, T* memory) {
  constexpr int N = PIXELS, OWNED = OWN<T>, ALL = OWNED * Place<N>::GROUPS;
  T* own = memory;  // the weights of the job's planes (L,ALL)
  memory += sizes.others * ALL;
  for (i64 i = blockIdx.x; i < jobs; i += gridDim.x) {
    const Job<N, OWNED, T> job(i, sizes, q);
    const int first = job.first - job.place.group * OWNED;
    for (int t = int(threadIdx.x); t < sizes.others * ALL; t += THREADS) {
      const int k = first + t % ALL;
      own[t] = k < sizes.classes ? weights[i64(k) * sizes.others + t / ALL] : T(0);
    }
    T sum[OWNED][N] = {};
    job.squares.each(sizes.others, memory, [&](int l, const T* sums) {
      if (job.squares.left + job.place.column >= sizes.width) return;
#pragma unroll
      for (int i = 0; i < N; i += 4) {
        T few[4];
        read(sums + job.place.row * PITCH + job.place.column + i, 4, few);
#pragma unroll
        for (int k = 0; k < OWNED; ++k)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            sum[k][i + j] += own[l * ALL + job.place.group * OWNED + k] * few[j];
      }
    });
    const i64 size = i64(sizes.height) * sizes.width;
#pragma unroll
    for (int k = 0; k < OWNED; ++k)
      if (job.first + k < sizes.classes)
        write(out + (job.image * sizes.classes + job.first + k) * size + job.begin(), job.left(),
              sum[k]);
    __syncthreads();  // the weights may be written again
  }
}

#define BOX(T, suffix)                                                                         \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) box_join_##suffix(                  \
      const T* p, const T* q, int classes, int others, int height, int width, int radius,      \
      i64 jobs, T* parts) {                                                                    \
    DYNAMIC_SHARED(shared);                                                                    \
    const Sizes sizes{classes, others, height, width, radius};                                 \
    join(p, q, sizes, jobs, parts, reinterpret_cast<T*>(shared));                              \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) box_mix_##suffix(                   \
      const T* weights, const T* q, int classes, int others, int height, int width, int radius, \
      i64 jobs, T* out) {                                                                      \
    DYNAMIC_SHARED(shared);                                                                    \
    const Sizes sizes{classes, others, height, width, radius};                                 \
    mix(weights, q, sizes, jobs, out, reinterpret_cast<T*>(shared));                           \
  }

BOX(float, float)
BOX(double, double)
