// The masked convolution of a block of tiles, and the gradient of its weights from one, by the
// products of winograd.h. Host only.

#ifndef __CUDACC__

constexpr int TILES = 96;  // of a block, at most
constexpr int BROAD = 16;  // of a block's row, at most
constexpr int OUTS = 96;   // channels of the result that are made at once
constexpr int DEEP = 64;   // channels of x whose weights' gradients are made at once

FN int parts_of(int n, int most) { return (n + most - 1) / most; }
FN int share_of(int n, int most) {  // of parts as equal as can be
  const int parts = parts_of(n, most);
  return (n + parts - 1) / parts;
}

// The blocks of tiles of a picture.
struct Blocks {
  int tall, broad;           // of the picture, in tiles
  int rows, columns;         // of a block
  int vertical, horizontal;  // blocks

  Blocks(int height, int width)
      : tall((height + 1) / 2),
        broad((width + 1) / 2),
        rows(0),
        columns(share_of(broad, BROAD)),
        vertical(0),
        horizontal(parts_of(broad, columns)) {
    rows = share_of(tall, TILES / columns);
    vertical = parts_of(tall, rows);
  }
  int count() const { return vertical * horizontal; }
};

struct Place {  // of a block
  int top, left, rows, columns;

  FN Place(const Blocks& blocks, int index)
      : top(index / blocks.horizontal * blocks.rows),
        left(index % blocks.horizontal * blocks.columns),
        rows(blocks.tall - top < blocks.rows ? blocks.tall - top : blocks.rows),
        columns(blocks.broad - left < blocks.columns ? blocks.broad - left : blocks.columns) {}
  FN int tiles() const { return rows * columns; }
};

// One picture of a batch.
template <class T>
struct Convolution {
  Pixels<const T> x, residual;  // the latter's data may be null
  const T *filters, *bias;      // group after group of OUTS results; may be null
  Pixels<T> out;
  bool relu;
};

// Memory of one block's patches and products.
template <class T>
struct Workspace {
  int pixels, tiles;  // at most
  Patch<T> patch, result, residual;
  T *inputs, *sums;

  Workspace(const Blocks& blocks) {
    pixels = (2 * blocks.rows + 2) * (2 * blocks.columns + 2);
    tiles = whole_tall(blocks.rows * blocks.columns);
  }

  // Its size; `memory` may be null.
  i64 carve(T* memory, int channels, int outs) {
    T* const begin = memory;
    const auto next = [&](i64 count) {
      T* here = memory;
      memory += count;
      return here;
    };
    inputs = next(i64(INPUTS) * tiles * channels);
    sums = next(i64(PAST) * tiles * outs);
    patch = {next(i64(pixels) * channels), 0, channels};
    result = {next(i64(pixels) * outs), 0, outs};
    residual = {next(i64(pixels) * outs), 0, outs};
    return (memory - begin) * i64(sizeof(T));
  }
};

// A tile's results from its sums of products; `start` is the bias.
template <class T>
FN void finish_tile(const T* sums, i64 plane, Pack<T> start, Pack<T> (&y)[2][2]) {
  Pack<T> up[4], down[4];
  for (int c = 0; c < 4; ++c) {
    const Pack<T> middle = take(sums + (4 + c) * plane);
    up[c] = take(sums + c * plane) + middle, down[c] = middle - take(sums + (8 + c) * plane);
  }
  y[0][0] = start + up[0] + up[1] + up[2], y[0][1] = start + up[1] - up[2] - up[3];
  y[1][0] = start + down[0] + down[1] + down[2], y[1][1] = start + down[1] - down[2] - down[3];
}

// The results of one block and one group of channels, the first of which is `first`.
template <class T>
BODY void finish(const Convolution<T>& conv, const Place& place, int first,
                 const Workspace<T>& work, int padded) {
  constexpr int N = WIDTH<T>;
  const int left_over = conv.out.channels - first, count = left_over < padded ? left_over : padded;
  const Pixels<T> out = conv.out.from(first, count);
  const int top = 2 * place.top, left = 2 * place.left;
  const int height = out.height - top < 2 * place.rows ? out.height - top : 2 * place.rows;
  const int width = out.width - left < 2 * place.columns ? out.width - left : 2 * place.columns;
  Patch<T> residual = work.residual, result = work.result;
  residual.width = result.width = 2 * place.columns, residual.channels = result.channels = padded;
  if (conv.residual.data)
    load_patch(conv.residual.from(first, count), top, left, 2 * place.rows, residual);
  const bool direct = out.channel == 1 && count == padded;
  const i64 plane = i64(whole_tall(place.tiles())) * padded;
  for (int o = 0; o < padded; o += N) {
    Pack<T> start{}, y[2][2];
    if (conv.bias)
      for (int k = 0; k < N && o + k < count; ++k) start[k] = conv.bias[first + o + k];
    const T* from = work.sums + o;
    for (int i = 0; i < place.rows; ++i)
      for (int j = 0; j < place.columns; ++j, from += padded) {
        finish_tile(from, plane, start, y);
        for (int r = 2 * i; r < 2 * i + 2; ++r)
          for (int c = 2 * j; c < 2 * j + 2; ++c) {
            Pack<T> v = y[r & 1][c & 1];
            if (conv.residual.data) v += take(residual.at(r, c) + o);
            if (conv.relu) v = v < 0 ? Pack<T>{} : v;
            if (!direct) put(result.at(r, c) + o, v);
            else if (r < height && c < width) put(out.at(top + r, left + c) + o, v);
          }
      }
  }
  if (!direct) store_patch(result, height, width, out, top, left);
}

template <class T>
FN int outs_of(int outs, int first) {
  return whole_packs<T>(outs - first < OUTS ? outs - first : OUTS);
}

// Bytes of the filters of all groups.
template <class T>
i64 filters_size(int channels, int outs) {
  return i64(sizeof(T)) * FILTERS * channels * whole_packs<T>(outs);
}

template <class T>
i64 convolve_memory(const Blocks& blocks, int channels) {
  return Workspace<T>(blocks).carve(nullptr, whole_packs<T>(channels), OUTS);
}

template <class T>
BODY void convolve(const Convolution<T>& conv, const Blocks& blocks, int index, T* memory) {
  const Place place(blocks, index);
  const int channels = conv.x.channels, deep = whole_packs<T>(channels);
  Workspace<T> work(blocks);
  work.carve(memory, deep, OUTS);
  work.patch.width = 2 * place.columns + 2;
  load_patch(conv.x, 2 * place.top - 2, 2 * place.left - 1, 2 * place.rows + 2, work.patch);
  transform_inputs(work.patch, place.rows, place.columns, work.inputs);
  const int rows = whole_tall(place.tiles());
  const i64 plane = i64(place.tiles()) * deep;
  const T* filters = conv.filters;
  for (int first = 0; first < conv.out.channels; first += OUTS) {
    const int padded = outs_of<T>(conv.out.channels, first);
    const i64 filter = i64(channels) * padded, sums = i64(rows) * padded;
    const auto add = [&](int input, int of, int position, bool more) {
      multiply(work.inputs + input * plane, deep, 1, filters + of * filter, padded, channels,
               work.sums + position * sums, padded, rows, padded, more);
    };
    for (int p = 0; p < PAST; ++p) add(p, p, p, false);
    for (int i = 0; i < 2 * ROW; ++i) add(PAST + i, PAST + i % ROW, PLACES[i], true);
    finish(conv, place, first, work, padded);
    filters += FILTERS * filter;
  }
}

template <class T>
i64 products_memory(const Blocks& blocks) {
  return Workspace<T>(blocks).carve(nullptr, DEEP, OUTS);
}

// The gradients of the filters from a block of some channels, DEEP and OUTS at most, of a picture
// and of the result's gradient: (FILTERS, deep, padded), added to if not `fresh`.
template <class T>
BODY void add_products(const Pixels<const T>& x, const Pixels<const T>& grad, const Blocks& blocks,
                       int index, bool fresh, T* memory, T* filters) {
  const int deep = deep_of<T>(x.channels), padded = whole_packs<T>(grad.channels);
  const Place place(blocks, index);
  const int top = 2 * place.top, left = 2 * place.left, tiles = place.tiles();
  Workspace<T> work(blocks);
  work.carve(memory, deep, padded);
  work.patch.width = 2 * place.columns + 2, work.result.width = 2 * place.columns;
  load_patch(x, top - 2, left - 1, 2 * place.rows + 2, work.patch);
  load_patch(grad, top, left, 2 * place.rows, work.result);
  transform_inputs(work.patch, place.rows, place.columns, work.inputs);
  transform_gradient(work.result, place.rows, place.columns, work.sums);
  const auto add = [&](int input, int position, int filter, bool more) {
    multiply(work.inputs + i64(input) * tiles * deep, 1, deep,
             work.sums + i64(position) * tiles * padded, padded, tiles,
             filters + i64(filter) * deep * padded, padded, deep, padded, more);
  };
  for (int p = 0; p < PAST; ++p) add(p, p, p, !fresh);
  for (int i = 0; i < 2 * ROW; ++i) add(PAST + i, PLACES[i], PAST + i % ROW, !fresh || i >= ROW);
}

#endif
