// Pooling over regions on a GPU, a warp a block. Pixels are walked in raster order, 32 at a time
// for 32 channels, the next 64 on their way from memory meanwhile; each thread has one channel to
// itself, so that sums have one order and need no atomics. In the host's bodies (region.h) a thread
// has vectors of pixels instead.

#ifdef __CUDACC__

constexpr int WARP = 32;

FN int smaller(int a, int b) { return a < b ? a : b; }

// p + step, as a number: of 16 bits compilers would make each address anew from an index.
template <class T>
FN T* moved(T* p, i64 step) {
  return reinterpret_cast<T*>(reinterpret_cast<u64>(p) + step * sizeof(T));
}

// Half precision as it lies in memory; it is read, and results are in float.
struct Half {
  unsigned short bits;
};
struct Bfloat16 {
  unsigned short bits;
};
#ifndef FLOAT_OF_HALF  // without a header, which CuPy may lack
#define FLOAT_OF_HALF(value, bits) asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits))
#endif
FN float number(float value) { return value; }
FN double number(double value) { return value; }
FN float number(Half half) {
  float value;
  FLOAT_OF_HALF(value, half.bits);
  return value;
}
FN float number(Bfloat16 half) { return __int_as_float(int(u32(half.bits) << 16)); }

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

// What is walked, cell by cell: a stretch of pixels, or a rectangle row by row. AHEAD tiles are
// loaded meanwhile; rectangles are small, and their blocks many.
struct Stretch {
  static constexpr int AHEAD = 2;
  static constexpr bool STRAIGHT = true;  // each cell follows the one before in memory
  int begin, cells;

  FN int pixel(int cell) const { return begin + cell; }
};
struct Box {
  static constexpr int AHEAD = 1;
  static constexpr bool STRAIGHT = false;
  int top, left, width, cells, pitch;

  FN int pixel(int cell) const { return (top + cell / width) * pitch + left + cell % width; }
};

// Bin i of n, of `size` pixels from `start` on, begins at from(i) and ends at to(i).
struct Bins {
  i64 start, size, n;

  FN int from(int i) const { return int(start + i * size / n); }
  FN int to(int i) const { return int(start + ((i + 1) * size + n - 1) / n); }
};

template <class T>
using Tile = T[WARP][WARP + 1];  // pixel, channel: no two threads meet in a bank either way

// 32 cells of an area for 32 channels, on their way from memory. Neighbouring threads have
// neighbours: pixels of a plane, channels of a row.
template <class T>
struct Ahead {
  T value[WARP] = {};
  int region = 0;  // of this thread's cell

  // From cell `first` on, those of regions less than `count`; `pixel` is this thread's.
  template <class Area>
  FN void load(const Pixels<const T>& x, const Area& area, int lane, int first, int pixel,
               int count) {
    const u32 cells = __ballot_sync(~0u, region < count), channels = u32(low_bits(x.here));
    const u32 wanted =
        x.rows ? (channels >> lane & 1 ? cells : 0) : (cells >> lane & 1 ? channels : 0);
    const bool jumps = x.rows && !Area::STRAIGHT;
    const T* from = &x.at(x.rows && !jumps ? area.pixel(first) : pixel, x.rows ? lane : 0);
    const i64 step = x.rows ? x.channels : x.size;
#pragma unroll
    for (int i = 0; i < WARP; ++i) {
      if (jumps) from = &x.at(__shfl_sync(~0u, pixel, i), lane);
      if (wanted >> i & 1) value[i] = *from;
      from = moved(from, step);
    }
  }

  FN void store(int rows, int lane, Tile<T>& tile) const {
#pragma unroll
    for (int i = 0; i < WARP; ++i) (rows ? tile[i][lane] : tile[lane][i]) = value[i];
  }
};

// The result `of` of region `held`, and then those of the regions that follow in a tile, are given
// the values of this thread's channel, the first of which is of cell `first`. Returns the last one.
template <class T, class Room, class Of>
FN int add(const Tile<T>& tile, int lane, int region, int first, const Room& room, int held,
           Of& of) {
  const int before = __shfl_up_sync(~0u, region, 1);
  const u32 begins = __ballot_sync(~0u, region != (lane ? before : held));
#pragma unroll
  for (int i = 0; i < WARP; i += 8) {
    T value[8];  // several on their way from shared memory
#pragma unroll
    for (int j = 0; j < 8; ++j) value[j] = tile[i + j][lane];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (begins >> (i + j) & 1) {
        room.keep(held * WARP + lane, of);
        held = __shfl_sync(~0u, region, i + j);
        of = room.of(held * WARP + lane);
        of.begin(number(value[j]), first + i + j);
      }
      of.take(number(value[j]), first + i + j);
    }
  }
  return held;
}

// Gives each region's result the area's values of this thread's channel, in order. Those of regions
// [from, from + count) wait in `room`, a result a region and thread; one more takes what is in the
// place of all other pixels, which are not loaded. Returns how many are loaded.
template <class T, class Area, class Room>
FN int pool(const Block& block, const Pixels<const T>& x, const int* labels, const Area& area,
            int from, int count, Tile<T>& tile, const Room& room) {
  const int lane = block.thread();
  auto of = room.none();
  for (int r = 0; r <= count; ++r) room.keep(r * WARP + lane, of);
  // Of this thread's cell of the tile that is loaded next, on their way themselves.
  int pixel = 0, label = 0;
  const auto look = [&](int first) {
    pixel = 0, label = from - 1;
    if (first + lane < area.cells) label = labels[pixel = area.pixel(first + lane)];
  };
  // Into the tile with what has come, and `next` on its way; the region of this thread's cell.
  const auto turn = [&](Ahead<T>& ahead, int next) {
    const int region = ahead.region;
    block.sync();
    ahead.store(x.rows, lane, tile);
    if (next < area.cells) {
      ahead.region = u32(label - from) < u32(count) ? label - from : count;
      ahead.load(x, area, lane, next, pixel, count);
      look(next + WARP);
    }
    block.sync();
    return region;
  };
  Ahead<T> even, odd;
  int held = count, own = 0;
  look(0);
  for (int first = -Area::AHEAD * WARP; first < area.cells; first += WARP) {
    const int next = first + Area::AHEAD * WARP;
    const int region = Area::AHEAD == 2 && first & WARP ? turn(odd, next) : turn(even, next);
    if (first < 0) continue;
    own += __popc(__ballot_sync(~0u, region < count));
    held = add(tile, lane, region, first, room, held, of);
  }
  room.keep(held * WARP + lane, of);
  return own;
}

template <class T>
struct Sum {
  T value;

  FN void begin(T, int) {}
  FN void take(T v, int) { value += v; }
  template <class Area>
  FN void put(const Area&, T* out, int*, i64 i) const {
    out[i] = value;
  }
  FN void join(const T* out, const int*, i64 i) { value += out[i]; }
  FN void floor(T) {}
};

template <class T>
struct Sums {
  T* value;

  FN static Sum<T> none() { return {0}; }
  FN Sum<T> of(int i) const { return {value[i]}; }
  FN void keep(int i, const Sum<T>& of) const { value[i] = of.value; }
};

// The largest value so far and its cell, −1 before the first; a NaN is larger than all.
template <class T>
struct Best {
  T value;
  int at;

  FN void begin(T v, int cell) {
    if (at < 0) value = v, at = cell;
  }
  FN void take(T v, int cell) {  // not the first
    if (!(v <= value) && value == value) value = v, at = cell;
  }
  template <class Area>
  FN void put(const Area& area, T* out, int* argmax, i64 i) const {
    out[i] = value;
    if (argmax) argmax[i] = at < 0 ? -1 : area.pixel(at);
  }
  FN void join(const T* out, const int* argmax, i64 i) {
    if (argmax[i] >= 0) begin(out[i], argmax[i]), take(out[i], argmax[i]);
  }
  FN void floor(T fill) {
    if (at < 0 || value < fill) value = fill, at = -1;
  }
};

// The last number of unsigned At is that of no cell.
template <class T, class At>
struct Bests {
  T* value;
  At* at;

  FN static Best<T> none() { return {0, -1}; }
  FN Best<T> of(int i) const { return {value[i], int(At(at[i] + 1)) - 1}; }
  FN void keep(int i, const Best<T>& of) const { value[i] = of.value, at[i] = At(of.at); }
};

// All regions at once, over part `part` of the image. Each part's results (B,parts,R,C) go to
// `out`, to be joined.
template <class T, class Room, class S>
FN void pool_parts(const Block& block, const T* x, int rows, const int* labels, int batch,
                   int channels, int size, int regions, int parts, Tile<T>& tile, const Room& room,
                   S* out, int* argmax) {
  const int lane = block.thread();
  const i64 jobs = i64(batch) * ((channels + WARP - 1) / WARP) * parts;
  for (i64 j = blockIdx.x; j < jobs; j += gridDim.x) {
    const Job job(j, channels, parts);
    const Pixels<const T> from = job.of(x, size, channels, rows);
    const int begin = int(size * job.part / parts), end = int(size * (job.part + 1) / parts);
    const Stretch stretch{begin, end - begin};
    pool(block, from, labels + job.image * size, stretch, 0, regions, tile, room);
    if (lane >= from.here) continue;
    const i64 to = (job.image * parts + job.part) * regions * channels + job.tile * WARP + lane;
    for (int r = 0; r < regions; ++r)
      room.of(r * WARP + lane).put(stretch, out, argmax, to + r * i64(channels));
  }
}

// Results (B,R,C) of parts (B,parts,R,C), in order.
template <class Room, class T>
FN void join_parts(const Block& block, const T* part, const int* part_argmax, int batch, int parts,
                   i64 each, T* out, int* argmax) {
  for (i64 i = i64(blockIdx.x) * block.threads() + block.thread(); i < batch * each;
       i += i64(gridDim.x) * block.threads()) {
    const i64 image = i / each, first = image * parts * each + i % each;
    auto of = Room::none();
    for (int k = 0; k < parts; ++k) of.join(part, part_argmax, first + k * each);
    of.put(Stretch{0, 0}, out, argmax, i);
  }
}

// One region at a time, by the bins of its box: levels[i]² of them for each i. (B,R,bins,C).
template <class T, class Room, class S>
FN void pool_bins(const Block& block, const T* x, int rows, const int* labels, const int* boxes,
                  int batch, int channels, int size, int pitch, int regions, const int* levels,
                  int bins, int has_fill, S fill, Tile<T>& tile, const Room& room, S* out,
                  int* argmax) {
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
    const Box box_of_bin{top, left, width, height * width, pitch};
    const int own = pool(block, from, labels + job.image * size, box_of_bin, region, 1, tile, room);
    auto of = room.of(lane);
    if (has_fill && own < height * width) of.floor(fill);
    if (lane < from.here)
      of.put(box_of_bin, out, argmax,
             (job.image * parts + job.part) * channels + job.tile * WARP + lane);
  }
}

#endif
