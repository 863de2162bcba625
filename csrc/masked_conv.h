// The masked convolution of 3×3 pixels in ordering 1 and the gradient of its weights, by Winograd's
// minimal filtering. Host only.
//
// A tile is 2×2 results. Their pixels lie in a window of 4×4, rows and columns 0 … 3: the result
// (y, x) sees rows y and y+1 at columns x … x+2, and in row y+2, its own, columns x and x+1. Of a
// row's three taps h, those of two neighbouring results of the pixels e are
//
//   h₀e₀+h₁e₁+h₂e₂ = m₀+m₁+m₂    m₀ = (e₀−e₂)h₀    m₁ = (e₁+e₂)(h₀+h₁+h₂)/2
//   h₀e₁+h₁e₂+h₂e₃ = m₁−m₂−m₃    m₃ = (e₁−e₃)h₂    m₂ = (e₂−e₁)(h₀−h₁+h₂)/2
//
// with 4 products for 6, and of two taps, with 3 for 4,
//
//   h₀e₀+h₁e₁ = m₀+m₁,  h₀e₁+h₁e₂ = m₁−m₃    m₀ = (e₀−e₁)h₀,  m₁ = e₁(h₀+h₁),  m₃ = (e₁−e₂)h₁
//
// The past rows take the latter along columns times the former along rows, 3×4 products at
// positions 4r+c. The current rows take the latter along rows; their 3 products belong to the same
// sums, those of the first result's row to positions 0, 1, 3 and, negated, those of the second's to
// 8, 9, 11. All in all 18 products for 32, and each result is a sum of products of what it sees
// alone: what is masked has no effect at all, not even if it is not a number.

#ifndef __CUDACC__

constexpr int PAST = 12, ROW = 3, FILTERS = PAST + ROW, INPUTS = PAST + 2 * ROW;
// The position of product i of the first result's row, and of the second's.
constexpr int PLACES[2 * ROW] = {0, 1, 3, 8, 9, 11};

constexpr int TILES = 96;  // of a block, at most
constexpr int BROAD = 16;  // of a block's row, at most
constexpr int OUTS = 96;   // channels of the result that are made at once
constexpr int DEEP = 64;   // channels of x whose weights' gradients are made at once

// Channels of pixels, anywhere in memory.
template <class T>
struct Pixels {
  T* data;
  i64 channel, row, column;  // strides
  int channels, height, width;

  T* at(int y, int x) const { return data + y * row + x * column; }
  Pixels from(int first, int count) const {
    return {data + first * channel, channel, row, column, count, height, width};
  }
};

// Pixels in rows of packs of channels.
template <class T>
struct Patch {
  T* data;
  int width, channels;  // the latter whole packs

  FN T* at(int y, int x) const { return data + (i64(y) * width + x) * channels; }
};

template <class T>
FN int deep_of(int channels) {
  return whole_tall(whole_packs<T>(channels));
}

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

// --- Pixels to patches and back
// -------------------------------------------------------------------

// WIDTH<T> channels of WIDTH<T> pixels that are neighbours in memory, `step` being 1 or −1.
template <class T>
FN void load_square(const T* from, i64 channel, i64 step, T* to, i64 next) {
  constexpr int N = WIDTH<T>;
  Pack<T> v[N];
  for (int i = 0; i < N; ++i) v[i] = take(from + i * channel - (step < 0 ? N - 1 : 0));
  transpose<N>(v);
  for (int i = 0; i < N; ++i) put(to + i * next, v[step < 0 ? N - 1 - i : i]);
}

template <class T>
FN void store_square(T* to, i64 channel, i64 step, const T* from, i64 next) {
  constexpr int N = WIDTH<T>;
  Pack<T> v[N];
  for (int i = 0; i < N; ++i) v[step < 0 ? N - 1 - i : i] = take(from + i * next);
  transpose<N>(v);
  for (int i = 0; i < N; ++i) put(to + i * channel - (step < 0 ? N - 1 : 0), v[i]);
}

// Lines of pixels between x, by its strides, and a patch, by `next` and `line`: in squares where
// pixels are neighbours in memory, the last of which may overlap the one before.
template <bool LOAD, class T, class X>
FN void move_lines(X* x, i64 channel, i64 along, i64 across, T* patch, i64 next, i64 line, int n,
                   int lines, int channels) {
  constexpr int N = WIDTH<T>;
  const bool squares = (along == 1 || along == -1) && n >= N;
  const int whole = squares ? channels / N * N : 0;
  for (int i = 0; i < lines; ++i, x += across, patch += line) {
    for (int c = 0; c < whole; c += N)
      for (int j = 0; j < n; j += N) {
        const int at = j < n - N ? j : n - N;
        auto* there = x + c * channel + at * along;
        if constexpr (LOAD) load_square<T>(there, channel, along, patch + at * next + c, next);
        else store_square<T>(there, channel, along, patch + at * next + c, next);
      }
    for (int j = 0; j < n; ++j)
      for (int c = whole; c < channels; ++c) {
        auto* there = x + c * channel + j * along;
        if constexpr (LOAD) patch[j * next + c] = *there;
        else *there = patch[j * next + c];
      }
  }
}

// Part of x, as long as a patch's channels, from (top, left) on; 0 outside.
template <class T>
FN void load_patch(const Pixels<const T>& x, int top, int left, int height, const Patch<T>& patch) {
  constexpr int N = WIDTH<T>;
  const int y0 = top < 0 ? -top : 0, x0 = left < 0 ? -left : 0;
  const int y1 = x.height - top < height ? x.height - top : height;
  const int x1 = x.width - left < patch.width ? x.width - left : patch.width;
  const bool tail = x.channels < patch.channels;
  for (int i = 0; i < height; ++i)
    for (int j = 0; j < patch.width; ++j)
      if (i < y0 || i >= y1 || j < x0 || j >= x1 || tail) {
        T* to = patch.at(i, j);
        for (int c = 0; c < patch.channels; c += N) put(to + c, Pack<T>{});
      }
  if (y1 <= y0 || x1 <= x0) return;
  const T* from = x.at(top + y0, left + x0);
  const i64 next = patch.channels, line = i64(patch.width) * patch.channels;
  T* to = patch.at(y0, x0);
  if (x.channel == 1) {
    for (int i = y0; i < y1; ++i, from += x.row, to += line)
      for (int j = 0; j < x1 - x0; ++j) {
        int c = 0;
        for (; c + N <= x.channels; c += N) put(to + j * next + c, take(from + j * x.column + c));
        for (; c < x.channels; ++c) to[j * next + c] = from[j * x.column + c];
      }
  } else if (x.row == 1 || x.row == -1) {
    move_lines<true>(from, x.channel, x.row, x.column, to, line, next, y1 - y0, x1 - x0,
                     x.channels);
  } else {
    move_lines<true>(from, x.channel, x.column, x.row, to, next, line, x1 - x0, y1 - y0,
                     x.channels);
  }
}

template <class T>
FN void store_patch(const Patch<T>& patch, int height, int width, const Pixels<T>& x, int top,
                    int left) {
  const i64 next = patch.channels, line = i64(patch.width) * patch.channels;
  T* to = x.at(top, left);
  if (x.row == 1 || x.row == -1)
    move_lines<false>(to, x.channel, x.row, x.column, patch.data, line, next, height, width,
                      x.channels);
  else
    move_lines<false>(to, x.channel, x.column, x.row, patch.data, next, line, width, height,
                      x.channels);
}

// --- Transforms
// -----------------------------------------------------------------------------------

// The four products' pixels along a row.
template <class V>
FN void wide(const V* e, V* to) {
  to[0] = e[0] - e[2], to[1] = e[1] + e[2], to[2] = e[2] - e[1], to[3] = e[1] - e[3];
}

// Of every tile, what its products take of x: (INPUTS, tiles, channels). The patch starts at the
// first tile's window.
template <class T>
BODY void transform_inputs(const Patch<T>& patch, int rows, int columns, T* inputs) {
  const i64 plane = i64(rows) * columns * patch.channels;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j)
      for (int c = 0; c < patch.channels; c += WIDTH<T>) {
        Pack<T> d[4][4], v[INPUTS];
        for (int r = 0; r < 4; ++r)
          for (int k = 0; k < 4; ++k) d[r][k] = take(patch.at(2 * i + r, 2 * j + k) + c);
        const Pack<T> first[4] = {d[0][0] - d[1][0], d[0][1] - d[1][1], d[0][2] - d[1][2],
                                  d[0][3] - d[1][3]};
        const Pack<T> last[4] = {d[1][0] - d[2][0], d[1][1] - d[2][1], d[1][2] - d[2][2],
                                 d[1][3] - d[2][3]};
        wide(first, v), wide(d[1], v + 4), wide(last, v + 8);
        const Pack<T>*own = d[2], *below = d[3];
        v[12] = own[0] - own[1], v[13] = own[1], v[14] = own[1] - own[2];
        v[15] = below[1] - below[0], v[16] = -below[1], v[17] = below[2] - below[1];
        T* to = inputs + (i64(i) * columns + j) * patch.channels + c;
        for (int p = 0; p < INPUTS; ++p) put(to + p * plane, v[p]);
      }
}

// The result's gradient, spread over the positions: (PAST, tiles, channels).
template <class T>
BODY void transform_gradient(const Patch<T>& patch, int rows, int columns, T* spread) {
  const i64 plane = i64(rows) * columns * patch.channels;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j)
      for (int c = 0; c < patch.channels; c += WIDTH<T>) {
        T* to = spread + (i64(i) * columns + j) * patch.channels + c;
        const auto put_row = [&](int p, Pack<T> left, Pack<T> right) {
          put(to + p * plane, left), put(to + (p + 1) * plane, left + right);
          put(to + (p + 2) * plane, left - right), put(to + (p + 3) * plane, -right);
        };
        const T *up = patch.at(2 * i, 2 * j) + c, *down = patch.at(2 * i + 1, 2 * j) + c;
        const Pack<T> a = take(up), b = take(up + patch.channels);
        const Pack<T> e = take(down), f = take(down + patch.channels);
        put_row(0, a, b), put_row(4, a + e, b + f), put_row(8, -e, -f);
      }
}

// Weights (outs, channels, 3, 3), anywhere in memory, in the frame of ordering 1.
template <class T>
struct Weights {
  T* data;
  i64 out, channel, row, column;  // strides
  int outs, channels;

  T* at(int o, int c, int tap) const {
    return data + o * out + c * channel + tap / 3 * row + tap % 3 * column;
  }
};

constexpr int TAPS = 8;  // that are not masked, by rows

// The filters of one group of OUTS results from `first` on: (FILTERS, channels, `padded`).
template <class T>
BODY void transform_weights(const Weights<const T>& weights, int first, int padded, T* filters) {
  constexpr int N = WIDTH<T>;
  const T half = T(0.5);
  const i64 plane = i64(weights.channels) * padded;
  for (int c = 0; c < weights.channels; ++c)
    for (int o = 0; o < padded; o += N) {
      Pack<T> w[TAPS] = {}, f[FILTERS];
      const int count = weights.outs - first - o < N ? weights.outs - first - o : N;
      for (int tap = 0; tap < TAPS; ++tap)
        for (int i = 0; i < count; ++i) w[tap][i] = *weights.at(first + o + i, c, tap);
      const auto row = [&](const Pack<T>* h, Pack<T>* to) {
        const Pack<T> outer = h[0] + h[2];
        to[0] = h[0], to[1] = (outer + h[1]) * half, to[2] = (outer - h[1]) * half, to[3] = h[2];
      };
      row(w, f), row(w + 3, f + 8);
      const Pack<T> both[3] = {w[0] + w[3], w[1] + w[4], w[2] + w[5]};
      row(both, f + 4);
      f[12] = w[6], f[13] = w[6] + w[7], f[14] = w[7];
      for (int p = 0; p < FILTERS; ++p) put(filters + p * plane + i64(c) * padded + o, f[p]);
    }
}

// The transpose of `transform_weights`: the gradients of `channels` × `outs` weights, those of the
// masked ones 0, from those of the filters, the sums of `parts` arrays (FILTERS, deep, padded),
// `apart` apart.
template <class T>
BODY void weights_back(const T* filters, int parts, i64 apart, const Weights<T>& weights) {
  constexpr int N = WIDTH<T>;
  const int deep = deep_of<T>(weights.channels), padded = whole_packs<T>(weights.outs);
  const T half = T(0.5);
  const i64 plane = i64(deep) * padded;
  for (int c = 0; c < weights.channels; ++c)
    for (int o = 0; o < padded; o += N) {
      Pack<T> f[FILTERS] = {}, w[TAPS];
      for (int part = 0; part < parts; ++part)
        for (int p = 0; p < FILTERS; ++p)
          f[p] += take(filters + part * apart + p * plane + i64(c) * padded + o);
      const auto row = [&](const Pack<T>* of, Pack<T>* to) {
        const Pack<T> sum = (of[1] + of[2]) * half;
        to[0] = of[0] + sum, to[1] = (of[1] - of[2]) * half, to[2] = of[3] + sum;
      };
      for (int p = 0; p < 4; ++p) f[p] += f[4 + p], f[8 + p] += f[4 + p];
      row(f, w), row(f + 8, w + 3);
      w[6] = f[12] + f[13], w[7] = f[13] + f[14];
      const int count = weights.outs - o < N ? weights.outs - o : N;
      for (int i = 0; i < count; ++i) {
        for (int tap = 0; tap < TAPS; ++tap) *weights.at(o + i, c, tap) = w[tap][i];
        *weights.at(o + i, c, TAPS) = 0;
      }
    }
}

// --- The convolution
// ------------------------------------------------------------------------------

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

// A tile's results, and those of its residual if there is one.
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

// --- The gradient of the weights
// ------------------------------------------------------------------

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
