// Products of label fields with sums over squares of others, on a GPU: a block a tile of an image
// (box_device.h).

#include "block.h"
//
#ifndef PLANES
#define PLANES 4  // of a thread; the launcher takes as few as serve all at once
#define RADIUS 10
#define WIDTH 200  // of the images
#endif
#include "box_device.h"

// As many as registers hold.
template <class T>
constexpr int MOST = sizeof(T) == 8 ? 1 : PLANES;

struct Sizes {
  int classes, others, height;
};

// A tile of an image, and MOST planes for each thread.
template <class T>
struct Job {
  i64 tile, image;
  int first;  // of the thread's planes
  Place place;
  Squares<T> squares;  // of the other field

  FN Job(i64 job, const Sizes& sizes, const T* others) {
    constexpr int across = (WIDTH + ACROSS - 1) / ACROSS;
    const i64 tiles = i64((sizes.height + TALL - 1) / TALL) * across;
    const int passes = (sizes.classes - 1) / (MOST<T> * GROUPS) + 1;
    tile = job / passes, image = tile / tiles;
    first = (int(job % passes) * GROUPS + place.group) * MOST<T>;
    squares = {others + image * sizes.others * sizes.height * WIDTH, sizes.height,
               int(tile % tiles / across) * TALL, int(tile % tiles % across) * ACROSS};
  }

  // How many of the thread's pixels are in the image, and where they begin in its planes.
  FN int left() const {
    return squares.top + place.row < squares.height ? WIDTH - squares.left - place.column : 0;
  }
  FN i64 begin() const {
    return i64(squares.top + place.row) * WIDTH + squares.left + place.column;
  }
};

// parts (tiles of all images, ACROSS/OWN, K, L): p (B,K,height,WIDTH) times the sums over squares
// of q (B,L,height,WIDTH).
template <class T>
FN void join(const T* p, const T* q, const Sizes& sizes, i64 jobs, T* parts, T* memory) {
  constexpr int PART = MOST<T>;
  for (i64 i = blockIdx.x; i < jobs; i += gridDim.x) {
    const Job<T> job(i, sizes, q);
    const i64 size = i64(sizes.height) * WIDTH;
    T own[PART][OWN];
#pragma unroll
    for (int k = 0; k < PART; ++k) {
      const T* row = p + (job.image * sizes.classes + job.first + k) * size + job.begin();
      const int left = job.first + k < sizes.classes ? job.left() : 0;
      if (few_at_a_time<OWN>(row, left)) read(row, own[k]);
      else
#pragma unroll
        for (int i = 0; i < OWN; ++i) own[k][i] = i < left ? row[i] : T(0);
    }
    const int k = job.first + job.place.row;
    const bool mine = job.place.row < PART && k < sizes.classes;
    const i64 tile = job.tile * (ACROSS / OWN) + job.place.column / OWN;
    T* part = parts + (tile * sizes.classes + k) * sizes.others;
    job.squares.each(sizes.others, memory, [&](int l, const T* sums) {
      T sum[PART] = {};
      job.place.each(sums, [&](int i, T value) {
#pragma unroll
        for (int k = 0; k < PART; ++k) sum[k] += own[k][i] * value;
      });
      const T whole = warp_sums(sum);
      if (mine) part[l] = whole;
    });
  }
}

// out (B,K,height,WIDTH) = Σ_l weights[k,l]·(sums over squares of q (B,L,height,WIDTH)).
template <class T>
FN void mix(const T* weights, const T* q, const Sizes& sizes, i64 jobs, T* out, T* memory) {
  constexpr int PART = MOST<T>, ALL = PART * GROUPS;
  T* own = memory + 2 * TALL * (PITCH + WIDE);  // the weights of the job's planes (L,ALL)
  for (i64 i = blockIdx.x; i < jobs; i += gridDim.x) {
    const Job<T> job(i, sizes, q);
    const int first = job.first - job.place.group * PART;
    for (int t = int(threadIdx.x); t < sizes.others * ALL; t += THREADS) {
      const int k = first + t % ALL;
      own[t] = k < sizes.classes ? weights[i64(k) * sizes.others + t / ALL] : T(0);
    }
    T sum[PART][OWN] = {};
    job.squares.each(sizes.others, memory, [&](int l, const T* sums) {
      if (job.squares.left + job.place.column >= WIDTH) return;
      job.place.each(sums, [&](int i, T value) {
#pragma unroll
        for (int k = 0; k < PART; ++k)
          sum[k][i] += own[l * ALL + job.place.group * PART + k] * value;
      });
    });
    const i64 size = i64(sizes.height) * WIDTH;
#pragma unroll
    for (int k = 0; k < PART; ++k)
      if (job.first + k < sizes.classes) {
        T* row = out + (job.image * sizes.classes + job.first + k) * size + job.begin();
        if (few_at_a_time<OWN>(row, job.left())) write(row, sum[k]);
        else
#pragma unroll
          for (int i = 0; i < OWN; ++i)
            if (i < job.left()) row[i] = sum[k][i];
      }
    __syncthreads();  // the weights may be written again
  }
}

#define BOX(T, suffix)                                                                       \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) box_join_##suffix(                \
      const T* p, const T* q, int classes, int others, int height, i64 jobs, T* parts) {     \
    DYNAMIC_SHARED(shared);                                                                  \
    const Sizes sizes{classes, others, height};                                              \
    join(p, q, sizes, jobs, parts, reinterpret_cast<T*>(shared));                            \
  }                                                                                          \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) box_mix_##suffix(                 \
      const T* weights, const T* q, int classes, int others, int height, i64 jobs, T* out) { \
    DYNAMIC_SHARED(shared);                                                                  \
    const Sizes sizes{classes, others, height};                                              \
    mix(weights, q, sizes, jobs, out, reinterpret_cast<T*>(shared));                         \
  }

BOX(float, float)
BOX(double, double)
