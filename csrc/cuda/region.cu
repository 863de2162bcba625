// Region operators on a GPU: the index, pooling (csrc/region_device.h) and its adjoints, resampled
// boxes (csrc/region_device_resize.h).

#include "block.h"
//
#include "region_device.h"
//
#include "region_device_resize.h"

// --- index --------------------------------------------------------------------------------------

// Of labels (B,H,W): the runs of each row (B·H); pixels (B,R) and boxes (B,R,4) of the regions, all
// 0 at first. The first row and column of a box come as how far they lie from the end.
extern "C" __global__ void __launch_bounds__(WARP)
    region_measure(const int* labels, int batch, int height, int width, int regions, int* runs,
                   int* counts, int* boxes) {
  const int lane = threadIdx.x;
  for (i64 row = blockIdx.x; row < i64(batch) * height; row += gridDim.x) {
    const int* label = labels + row * width;
    const i64 image = row / height * regions;
    const int y = int(row % height);
    int found = 0;
    for (int first = 0; first < width; first += WARP) {
      const int x = first + lane;
      const bool inside = x < width && u32(label[x]) < u32(regions);
      const bool begins = inside && (x == 0 || label[x - 1] != label[x]);
      if (begins) {
        int* box = boxes + (image + label[x]) * 4;
        atomicMax(box, height - y);
        atomicMax(box + 1, width - x);
        atomicAdd(counts + image + label[x], -x);
      }
      if (inside && (x + 1 == width || label[x + 1] != label[x])) {
        int* box = boxes + (image + label[x]) * 4;
        atomicMax(box + 2, y + 1);
        atomicMax(box + 3, x + 1);
        atomicAdd(counts + image + label[x], x + 1);
      }
      found += __popc(__ballot_sync(~0u, begins));
    }
    if (lane == 0) runs[row] = found;
  }
}

// Runs (B,HW,3) of labels, those of a row from the `before`-th of the image on; boxes put right.
extern "C" __global__ void __launch_bounds__(WARP)
    region_runs(const int* labels, int batch, int height, int width, int regions, const int* before,
                int* runs, int* boxes) {
  const int lane = threadIdx.x;
  const u32 below = (1u << lane) - 1;
  for (i64 row = blockIdx.x; row < i64(batch) * height; row += gridDim.x) {
    const int* label = labels + row * width;
    const int pixel = int(row % height) * width;
    int* first_run = runs + row / height * height * width * 3;
    int begun = before[row], ended = begun;
    for (int first = 0; first < width; first += WARP) {
      const int x = first + lane;
      const bool inside = x < width && u32(label[x]) < u32(regions);
      const bool begins = inside && (x == 0 || label[x - 1] != label[x]);
      const bool ends = inside && (x + 1 == width || label[x + 1] != label[x]);
      const u32 all_begin = __ballot_sync(~0u, begins), all_end = __ballot_sync(~0u, ends);
      if (begins) {
        int* run = first_run + (begun + i64(__popc(all_begin & below))) * 3;
        run[0] = pixel + x, run[2] = label[x];
      }
      if (ends) first_run[(ended + i64(__popc(all_end & below))) * 3 + 1] = pixel + x + 1;
      begun += __popc(all_begin), ended += __popc(all_end);
    }
  }
  for (i64 r = i64(blockIdx.x) * WARP + lane; r < i64(batch) * regions; r += i64(gridDim.x) * WARP)
    if (boxes[4 * r]) {
      boxes[4 * r] = height - boxes[4 * r];
      boxes[4 * r + 1] = width - boxes[4 * r + 1];
    }
}

// --- pooling ------------------------------------------------------------------------------------

#define POOL(T, S, suffix)                                                                         \
  extern "C" __global__ void __launch_bounds__(WARP)                                               \
      region_sum_##suffix(const T* x, int rows, const int* labels, int batch, int channels,        \
                          int size, int regions, int parts, S* out) {                              \
    DYNAMIC_SHARED(room);                                                                          \
    __shared__ Tile<T> tile;                                                                       \
    pool_parts(Block{0}, x, rows, labels, batch, channels, size, regions, parts, tile,             \
               Sums<S>{reinterpret_cast<S*>(room)}, out, nullptr);                                 \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(WARP)                                               \
      region_max_##suffix(const T* x, int rows, const int* labels, int batch, int channels,        \
                          int size, int regions, int parts, S* out, int* argmax) {                 \
    DYNAMIC_SHARED(room);                                                                          \
    __shared__ Tile<T> tile;                                                                       \
    S* value = reinterpret_cast<S*>(room);                                                         \
    unsigned short* at = reinterpret_cast<unsigned short*>(value + (regions + 1) * WARP);          \
    pool_parts(Block{0}, x, rows, labels, batch, channels, size, regions, parts, tile,             \
               Bests<S, unsigned short>{value, at}, out, argmax);                                  \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(WARP) region_sum_boxes_##suffix(                    \
      const T* x, int rows, const int* labels, const int* boxes, int batch, int channels,          \
      int size, int pitch, int regions, const int* levels, S* out) {                               \
    __shared__ Tile<T> tile;                                                                       \
    __shared__ S value[2 * WARP];                                                                  \
    pool_bins(Block{0}, x, rows, labels, boxes, batch, channels, size, pitch, regions, levels, 1,  \
              0, S(0), tile, Sums<S>{value}, out, nullptr);                                        \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(WARP) region_max_boxes_##suffix(                    \
      const T* x, int rows, const int* labels, const int* boxes, int batch, int channels,          \
      int size, int pitch, int regions, const int* levels, int bins, int has_fill, S fill, S* out, \
      int* argmax) {                                                                               \
    __shared__ Tile<T> tile;                                                                       \
    __shared__ S value[2 * WARP];                                                                  \
    __shared__ int at[2 * WARP];                                                                   \
    pool_bins(Block{0}, x, rows, labels, boxes, batch, channels, size, pitch, regions, levels,     \
              bins, has_fill, fill, tile, Bests<S, int>{value, at}, out, argmax);                  \
  }
#define JOIN(S, suffix)                                                                       \
  extern "C" __global__ void region_join_sum_##suffix(const S* part, int batch, int parts,    \
                                                      i64 each, S* out) {                     \
    join_parts<Sums<S>>(Block{0}, part, nullptr, batch, parts, each, out, nullptr);           \
  }                                                                                           \
  extern "C" __global__ void region_join_max_##suffix(const S* part, const int* part_argmax,  \
                                                      int batch, int parts, i64 each, S* out, \
                                                      int* argmax) {                          \
    join_parts<Bests<S, int>>(Block{0}, part, part_argmax, batch, parts, each, out, argmax);  \
  }

POOL(Half, float, half)
POOL(Bfloat16, float, bfloat16)
POOL(float, float, float)
POOL(double, double, double)
JOIN(float, float)
JOIN(double, double)

// --- adjoints -----------------------------------------------------------------------------------

// out[p] = z[region of p], 0 in none; PLACED, only where that region's `at` is p. A warp has 32
// pixels and 32 channels; neighbouring threads write neighbours: pixels of a plane, channels of a
// row.
template <bool ROWS, bool PLACED, class T>
FN void unpool(const T* z, const int* at, const int* labels, int batch, int channels, int size,
               int regions, T* out) {
  const int lane = threadIdx.x % WARP;
  const i64 parts = (i64(size) + blockDim.x - 1) / blockDim.x;
  const i64 jobs = batch * ((channels + WARP - 1) / WARP) * parts;
  for (i64 j = blockIdx.x; j < jobs; j += gridDim.x) {
    const Job job(j, channels, parts);
    const Pixels<T> pixels = job.of(out, size, channels, ROWS);
    const i64 first = job.part * blockDim.x + threadIdx.x / WARP * WARP;
    if (first >= size) continue;
    const int cells = smaller(WARP, int(size - first)), pixel = int(first) + (ROWS ? 0 : lane);
    const int label = lane < cells ? labels[job.image * size + first + lane] : -1;
    const i64 tile = job.image * regions * channels + job.tile * WARP;
    T* to = &pixels.at(pixel, ROWS ? lane : 0);
    if (ROWS) {
      const int before = __shfl_up_sync(~0u, label, 1);
      const u32 begins = __ballot_sync(~0u, lane == 0 || label != before);
      const u32 wanted = lane < pixels.here ? u32(low_bits(cells)) : 0;
      T value{};
      int place = -1;
#pragma unroll
      for (int i = 0; i < WARP; ++i) {
        if (begins >> i & 1) {
          const int region = __shfl_sync(~0u, label, i);
          const bool known = wanted && u32(region) < u32(regions);
          const i64 from = tile + i64(region) * channels + lane;
          value = known ? z[from] : T{};
          if (PLACED) place = known ? at[from] : -1;
        }
        if (wanted >> i & 1) *to = !PLACED || place == pixel + i ? value : T{};
        to = moved(to, channels);
      }
    } else {
      const u32 wanted = lane < cells ? u32(low_bits(pixels.here)) : 0;
      const u32 known = u32(label) < u32(regions) ? wanted : 0;
      const i64 from = tile + i64(label) * channels;
#pragma unroll
      for (int i = 0; i < WARP; ++i) {
        T value{};
        if ((known >> i & 1) && (!PLACED || at[from + i] == pixel)) value = z[from + i];
        if (wanted >> i & 1) *to = value;
        to = moved(to, size);
      }
    }
  }
}

// out[at[i]] += z[i] in order, 0 elsewhere; a block has `pixels` pixels of 32 channels in `room`.
template <class T>
FN void scatter(const Block& block, const T* z, const int* at, int rows, int batch, int channels,
                int size, int count, int pixels, T* room, T* out) {
  constexpr int PITCH = WARP + 1;
  const int lane = block.thread();
  const i64 parts = (i64(size) + pixels - 1) / pixels;
  const i64 jobs = batch * ((channels + WARP - 1) / WARP) * parts;
  for (i64 j = blockIdx.x; j < jobs; j += gridDim.x) {
    const Job job(j, channels, parts);
    const Pixels<T> to = job.of(out, size, channels, rows);
    const int first = int(job.part * pixels), cells = smaller(pixels, size - first);
    for (int i = 0; i < cells; ++i) room[i * PITCH + lane] = 0;
    const i64 from = job.image * count * channels + job.tile * WARP + lane;
    for (int step = 0; step < count && lane < to.here; step += WARP) {
      int place[WARP];
#pragma unroll
      for (int i = 0; i < WARP; ++i)
        place[i] = step + i < count ? at[from + (step + i) * i64(channels)] - first : -1;
#pragma unroll
      for (int i = 0; i < WARP; ++i)
        if (u32(place[i]) < u32(cells))
          room[place[i] * PITCH + lane] += z[from + (step + i) * i64(channels)];
    }
    block.sync();
    const int lines = rows ? cells : to.here, line = rows ? to.here : cells;
    for (int i = 0; i < lines; ++i)
      for (int k = lane; k < line; k += WARP) {
        const int cell = rows ? i : k, channel = rows ? k : i;
        to.at(first + cell, channel) = room[cell * PITCH + channel];
      }
    block.sync();
  }
}

#define UNPOOL(T, suffix)                                                                      \
  extern "C" __global__ void region_unpool_##suffix(const T* z, int rows, const int* labels,   \
                                                    int batch, int channels, int size,         \
                                                    int regions, T* out) {                     \
    if (rows) unpool<true, false>(z, nullptr, labels, batch, channels, size, regions, out);    \
    else unpool<false, false>(z, nullptr, labels, batch, channels, size, regions, out);        \
  }                                                                                            \
  extern "C" __global__ void region_place_##suffix(const T* z, const int* at, int rows,        \
                                                   const int* labels, int batch, int channels, \
                                                   int size, int regions, T* out) {            \
    if (rows) unpool<true, true>(z, at, labels, batch, channels, size, regions, out);          \
    else unpool<false, true>(z, at, labels, batch, channels, size, regions, out);              \
  }
#define SCATTER(T, suffix)                                                                  \
  extern "C" __global__ void __launch_bounds__(WARP)                                        \
      region_scatter_##suffix(const T* z, const int* at, int rows, int batch, int channels, \
                              int size, int count, int pixels, T* out) {                    \
    DYNAMIC_SHARED(room);                                                                   \
    scatter(Block{0}, z, at, rows, batch, channels, size, count, pixels,                    \
            reinterpret_cast<T*>(room), out);                                               \
  }

UNPOOL(Half, half)
UNPOOL(Bfloat16, bfloat16)
UNPOOL(float, float)
UNPOOL(double, double)
SCATTER(float, float)
SCATTER(double, double)

// --- resampled boxes ----------------------------------------------------------------------------

#define RESIZE(T, suffix)                                                                         \
  extern "C" __global__ void region_resize_##suffix(                                              \
      const T* x, int rows, const int* labels, const int* boxes, int batch, int channels,         \
      int size, int width, int regions, int tall, int wide, T* out) {                             \
    resize_regions(Block{0}, x, rows, labels, boxes, batch, channels, size, width, regions, tall, \
                   wide, out);                                                                    \
  }                                                                                               \
  extern "C" __global__ void __launch_bounds__(WARP) region_spread_##suffix(                      \
      const T* z, int rows, const int* labels, const int* boxes, int batch, int channels,         \
      int height, int width, int regions, int tall, int wide, T* out) {                           \
    __shared__ T tile[DOWN * ACROSS][WARP + 1];                                                   \
    spread_regions(Block{0}, z, rows, labels, boxes, batch, channels, height, width, regions,     \
                   tall, wide, tile, out);                                                        \
  }

RESIZE(float, float)
RESIZE(double, double)
