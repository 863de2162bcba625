// Pooling over regions on a GPU, a warp a block. Pixels are walked in raster order, 32 at a time
// for 32 channels; each thread has one channel to itself, so that sums have one order and need no
// atomics. In the host's bodies (region.h) a thread has vectors of pixels instead.

#ifdef __CUDACC__

constexpr int WARP = 32;

FN int smaller(int a, int b) { return a < b ? a : b; }

// Pixels x[C][HW], or x[HW][C] if `rows`: of one image, from the first of 32 channels on.
template <class T>
struct Pixels {
  T* x;
  i64 size, channels;
  int here;  // channels of the 32
  int rows;

  FN T& at(int pixel, int channel) const {
    return x[rows ? i64(pixel) * channels + channel : channel * size + pixel];
  }
};

// Part `part` of all work: the 32 channels `tile` of image `image`, and the rest.
struct Job {
  i64 image, tile, part;

  FN Job(i64 job, i64 channels, i64 parts) {
    const i64 tiles = (channels + WARP - 1) / WARP;
    part = job % parts, tile = job / parts % tiles, image = job / parts / tiles;
  }
  template <class T>
  FN Pixels<T> of(T* x, i64 size, int channels, int rows) const {
    const i64 first = tile * WARP;
    x += image * size * channels + first * (rows ? 1 : size);
    return {x, size, channels, int(channels - first < WARP ? channels - first : WARP), rows};
  }
};

// Cells of a rectangle, row by row. A stretch of pixels is one row.
struct Area {
  int top, left, width, cells, pitch;

  FN int pixel(int i) const { return (top + i / width) * pitch + left + i % width; }
};

// Bin i of n, of `size` pixels from `start` on, begins at from(i) and ends at to(i).
struct Bins {
  i64 start, size, n;

  FN int from(int i) const { return int(start + i * size / n); }
  FN int to(int i) const { return int(start + ((i + 1) * size + n - 1) / n); }
};

template <class T>
struct Tile {
  T value[WARP][WARP + 1];  // pixel, channel: no two threads meet in a bank either way
  int pixel[WARP], region[WARP];
};

// f(region − from, pixel, value of this thread's channel) for the area's pixels of regions
// [from, from + count); returns how many those are.
template <class T, class F>
FN int each_value(const Block& block, const Pixels<const T>& x, const int* labels, const Area& area,
                  int from, int count, Tile<T>& tile, F f) {
  const int lane = block.thread();
  int own = 0;
  for (int first = 0; first < area.cells; first += WARP) {
    const int cells = smaller(WARP, area.cells - first);
    block.sync();
    if (lane < cells) {
      tile.pixel[lane] = area.pixel(first + lane);
      tile.region[lane] = labels[tile.pixel[lane]] - from;
    }
    block.sync();
    // Neighbouring threads load neighbours: pixels of a plane, channels of a row. All are under way
    // before the first is stored.
    T held[WARP];
#pragma unroll
    for (int i = 0; i < WARP; ++i) {
      const int cell = x.rows ? i : lane, channel = x.rows ? lane : i;
      held[i] = 0;
      if (cell < cells && channel < x.here && u32(tile.region[cell]) < u32(count))
        held[i] = x.at(tile.pixel[cell], channel);
    }
#pragma unroll
    for (int i = 0; i < WARP; ++i) (x.rows ? tile.value[i][lane] : tile.value[lane][i]) = held[i];
    block.sync();
    for (int i = 0; i < cells; ++i)
      if (u32(tile.region[i]) < u32(count)) {
        ++own;
        f(tile.region[i], tile.pixel[i], tile.value[i][lane]);
      }
  }
  return own;
}

template <class T>
struct Sum {
  T value;

  FN static Sum none() { return {0}; }
  FN void take(T v, int) { value += v; }
  FN void put(T* out, int*, i64 i) const { out[i] = value; }
  FN void join(const T* out, const int*, i64 i) { value += out[i]; }
  FN void floor(T) {}
};

// The largest value so far and its pixel, −1 before the first; a NaN is larger than all.
template <class T>
struct Best {
  T value;
  int at;

  FN static Best none() { return {0, -1}; }
  FN void take(T v, int pixel) {
    if (at < 0 || v > value || (v != v && value == value)) value = v, at = pixel;
  }
  FN void put(T* out, int* argmax, i64 i) const {
    out[i] = value;
    if (argmax) argmax[i] = at;
  }
  FN void join(const T* out, const int* argmax, i64 i) {
    if (argmax[i] >= 0) take(out[i], argmax[i]);
  }
  FN void floor(T fill) {
    if (at < 0 || value < fill) value = fill, at = -1;
  }
};

// All regions at once, over part `part` of the image: their results wait in `room`, a value a
// region and thread. Each part's results (B,parts,R,C) go to `out`, to be joined.
template <class Of, class T>
FN void pool_parts(const Block& block, const T* x, int rows, const int* labels, int batch,
                   int channels, int size, int regions, int parts, Tile<T>& tile, Of* room, T* out,
                   int* argmax) {
  const int lane = block.thread();
  const i64 jobs = i64(batch) * ((channels + WARP - 1) / WARP) * parts;
  for (i64 j = blockIdx.x; j < jobs; j += gridDim.x) {
    const Job job(j, channels, parts);
    const Pixels<const T> from = job.of(x, size, channels, rows);
    for (int r = 0; r < regions; ++r) room[r * WARP + lane] = Of::none();
    const int begin = int(size * job.part / parts), end = int(size * (job.part + 1) / parts);
    int held = 0;
    Of of = Of::none();
    each_value(block, from, labels + job.image * size, Area{0, begin, size, end - begin, 0}, 0,
               regions, tile, [&](int region, int pixel, T value) {
                 if (region != held) {
                   room[held * WARP + lane] = of;
                   of = room[region * WARP + lane];
                   held = region;
                 }
                 of.take(value, pixel);
               });
    room[held * WARP + lane] = of;
    if (lane >= from.here) continue;
    const i64 to = (job.image * parts + job.part) * regions * channels + job.tile * WARP + lane;
    for (int r = 0; r < regions; ++r)
      room[r * WARP + lane].put(out, argmax, to + r * i64(channels));
  }
}

// Results (B,R,C) of parts (B,parts,R,C), in order.
template <class Of, class T>
FN void join_parts(const Block& block, const T* part, const int* part_argmax, int batch, int parts,
                   i64 each, T* out, int* argmax) {
  for (i64 i = i64(blockIdx.x) * block.threads() + block.thread(); i < batch * each;
       i += i64(gridDim.x) * block.threads()) {
    const i64 image = i / each, first = image * parts * each + i % each;
    Of of = Of::none();
    for (int k = 0; k < parts; ++k) of.join(part, part_argmax, first + k * each);
    of.put(out, argmax, i);
  }
}

// One region at a time, by the bins of its box: levels[i]² of them for each i. (B,R,bins,C).
template <class Of, class T>
FN void pool_bins(const Block& block, const T* x, int rows, const int* labels, const int* boxes,
                  int batch, int channels, int size, int pitch, int regions, const int* levels,
                  int bins, int has_fill, T fill, Tile<T>& tile, T* out, int* argmax) {
  const int lane = block.thread();
  const i64 parts = i64(regions) * bins;
  const i64 jobs = batch * ((channels + WARP - 1) / WARP) * parts;
  for (i64 j = blockIdx.x; j < jobs; j += gridDim.x) {
    const Job job(j, channels, parts);
    const Pixels<const T> from = job.of(x, size, channels, rows);
    const int region = int(job.part / bins);
    int bin = int(job.part % bins), level = 0;
    for (; bin >= levels[level] * levels[level]; ++level) bin -= levels[level] * levels[level];
    const int n = levels[level], *box = boxes + (job.image * regions + region) * 4;
    const Bins down{box[0], box[2] - box[0], n}, across{box[1], box[3] - box[1], n};
    const int top = down.from(bin / n), left = across.from(bin % n);
    const int height = down.to(bin / n) - top, width = across.to(bin % n) - left;
    Of of = Of::none();
    const int own = each_value(block, from, labels + job.image * size,
                               Area{top, left, width, height * width, pitch}, region, 1, tile,
                               [&](int, int pixel, T value) { of.take(value, pixel); });
    if (has_fill && own < height * width) of.floor(fill);
    if (lane < from.here)
      of.put(out, argmax, (job.image * parts + job.part) * channels + job.tile * WARP + lane);
  }
}

#endif
