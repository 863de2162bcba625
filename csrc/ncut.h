// Affinities of the pixels within a disc, times planes: what a soft normalised cut is made of.

#ifndef __CUDACC__

template <class T>
struct Offset {
  int dy, dx;
  T exponent;  // −log₂e·(dy² + dx²)/σ_X²
};

// The images and their disc. Affinities are w = 2^(exponent − colour_rate·‖Δcolour‖²).
template <class T>
struct Disc {
  int classes, channels, height, width;
  int reach;  // largest |dy| and |dx|
  const Offset<T>* offsets;
  int count;
  T colour_rate;

  static constexpr int COLUMNS = 2 * WIDTH<T>, ROWS = 64;  // of a tile

  int tiles_x() const { return (width + COLUMNS - 1) / COLUMNS; }
  int tiles_y() const { return (height + ROWS - 1) / ROWS; }
  int room() const { return whole_packs<T>(COLUMNS + 2 * reach); }
};

// A tile and its surroundings, zero outside the image. A row of all planes lies together, so that
// the rows that a row of results is made of stay in the first cache while it moves down.
template <class T>
struct Tile {
  T* planes;   // (rows + 2·reach, K + 1, room): p, and ones, whose sums are the degrees
  T* colours;  // (rows + 2·reach, C, room)
  T* weights;  // (count, COLUMNS), of one row
  T* sums;     // (K + 1, COLUMNS), of one row
  T* inner;    // (K, WIDTH) Σ p·Wp
  T* outer;    // (K, WIDTH) Σ p·d
  int* shift;  // (count): how far an offset's neighbour lies in `planes`

  i64 carve(const Disc<T>& disc, char* memory) {
    const i64 rows = disc.ROWS + 2 * disc.reach, room = disc.room(), planes_of = disc.classes + 1;
    T* next = reinterpret_cast<T*>(memory);
    auto cut = [&](T*& part, i64 size) {
      part = next;
      next += (size + 15) / 16 * 16;
    };
    cut(planes, rows * planes_of * room);
    cut(colours, rows * disc.channels * room);
    cut(weights, i64(disc.count) * disc.COLUMNS);
    cut(sums, planes_of * disc.COLUMNS);
    cut(inner, disc.classes * i64(WIDTH<T>));
    cut(outer, disc.classes * i64(WIDTH<T>));
    shift = reinterpret_cast<int*>(next);
    return reinterpret_cast<char*>(shift + disc.count) - memory;
  }
};

// Row `y` of planes (count, height, width) from column x0 − reach on, zero outside the image.
template <class T>
FN void copy_row(const Disc<T>& disc, const T* in, int count, int y, int x0, T* out) {
  const int room = disc.room(), first = x0 - disc.reach;
  const int from = first < 0 ? -first : 0;
  const int until = disc.width - first < room ? disc.width - first : room;
  for (int k = 0; k < count; ++k, out += room) {
    for (int i = 0; i < room; ++i) out[i] = 0;
    if (y < 0 || y >= disc.height) continue;
    const T* row = in + (i64(k) * disc.height + y) * disc.width + first;
    for (int i = from; i < until; ++i) out[i] = row[i];
  }
}

template <class T>
FN void load_tile(const Disc<T>& disc, const T* p, const T* colours, int y0, int rows, int x0,
                  const Tile<T>& tile) {
  const int room = disc.room(), classes = disc.classes;
  for (int i = 0; i < rows + 2 * disc.reach; ++i) {
    const int y = y0 - disc.reach + i;
    T* planes = tile.planes + i64(i) * (classes + 1) * room;
    T* ones = planes + i64(classes) * room;
    copy_row(disc, p, classes, y, x0, planes);
    copy_row(disc, colours, disc.channels, y, x0, tile.colours + i64(i) * disc.channels * room);
    for (int x = 0; x < room; ++x) {
      const int column = x0 - disc.reach + x;
      ones[x] = y >= 0 && y < disc.height && column >= 0 && column < disc.width;
    }
  }
}

// The affinities of one row of the tile, whose own colours are `centre`; C = 0 is any number of
// channels.
template <int C, class T>
FN void weigh_row(const Disc<T>& disc, const T* centre, T* weights) {
  const int room = disc.room(), channels = C ? C : disc.channels;
  for (int x = 0; x < disc.COLUMNS; x += WIDTH<T>) {
    Pack<T> own[C ? C : 1];
    for (int c = 0; c < C; ++c) own[c] = take(centre + c * room + x);
    for (int o = 0; o < disc.count; ++o) {
      const Offset<T> offset = disc.offsets[o];
      const T* other = centre + i64(offset.dy) * channels * room + offset.dx + x;
      Pack<T> apart = {};
      for (int c = 0; c < channels; ++c) {
        const Pack<T> here = C ? own[c] : take(centre + c * room + x);
        const Pack<T> difference = take(other + c * room) - here;
        apart += difference * difference;
      }
      const Pack<T> weight = power_of_two<T>(offset.exponent - disc.colour_rate * apart);
      put(weights + i64(o) * disc.COLUMNS + x, weight);
    }
  }
}

// sums[n] = Σ weights · neighbours of planes n < N.
template <int N, class T>
FN void sum_planes(const Disc<T>& disc, const Tile<T>& tile, const T* planes, T* sums) {
  const int room = disc.room();
  Pack<T> left[N] = {}, right[N] = {};
  const T* weights = tile.weights;
  for (int o = 0; o < disc.count; ++o, weights += disc.COLUMNS) {
    const Pack<T> a = take(weights), b = take(weights + WIDTH<T>);
    const T* others = planes + tile.shift[o];
    for (int n = 0; n < N; ++n) {
      left[n] += a * take(others + n * room);
      right[n] += b * take(others + n * room + WIDTH<T>);
    }
  }
  for (int n = 0; n < N; ++n) {
    put(sums + n * disc.COLUMNS, left[n]);
    put(sums + n * disc.COLUMNS + WIDTH<T>, right[n]);
  }
}

template <class T>
FN void sum_row(const Disc<T>& disc, const Tile<T>& tile, const T* planes) {
  constexpr int MOST = LANES == 16 ? 8 : 4;  // accumulators that fit in the registers
  const int count = disc.classes + 1;
  auto at = [&](int k) { return planes + i64(k) * disc.room(); };
  int k = 0;
  for (; k + MOST <= count; k += MOST)
    sum_planes<MOST>(disc, tile, at(k), tile.sums + k * disc.COLUMNS);
  for (; k + 2 <= count; k += 2) sum_planes<2>(disc, tile, at(k), tile.sums + k * disc.COLUMNS);
  if (k < count) sum_planes<1>(disc, tile, at(k), tile.sums + k * disc.COLUMNS);
}

// One tile: filtered (K,H,W) = W p, degree (H,W) = W 1, and the tile's own part of the sums
// totals (2,K) = Σ p·Wp and Σ p·d.
template <class T>
BODY void ncut_tile(const Disc<T>& disc, const T* p, const T* colours, int index, char* memory,
                    T* filtered, T* degree, double* totals) {
  Tile<T> tile;
  tile.carve(disc, memory);
  const int classes = disc.classes, room = disc.room();
  const int y0 = index / disc.tiles_x() * disc.ROWS, x0 = index % disc.tiles_x() * disc.COLUMNS;
  const int rows = disc.height - y0 < disc.ROWS ? disc.height - y0 : disc.ROWS;
  const int columns = disc.width - x0 < disc.COLUMNS ? disc.width - x0 : disc.COLUMNS;
  load_tile(disc, p, colours, y0, rows, x0, tile);
  for (int o = 0; o < disc.count; ++o)
    tile.shift[o] = disc.offsets[o].dy * (classes + 1) * room + disc.offsets[o].dx;
  for (int i = 0; i < classes * WIDTH<T>; ++i) tile.inner[i] = tile.outer[i] = 0;

  const T* own_degree = tile.sums + i64(classes) * disc.COLUMNS;
  for (int y = 0; y < rows; ++y) {
    const i64 row = y + disc.reach;
    const T* planes = tile.planes + row * (classes + 1) * room + disc.reach;
    const T* centre = tile.colours + row * disc.channels * room + disc.reach;
    if (disc.channels == 3) weigh_row<3>(disc, centre, tile.weights);
    else weigh_row<0>(disc, centre, tile.weights);
    sum_row(disc, tile, planes);
    const i64 to = i64(y0 + y) * disc.width + x0;
    for (int k = 0; k <= classes; ++k) {
      const T* sums = tile.sums + i64(k) * disc.COLUMNS;
      T* out = k < classes ? filtered + i64(k) * disc.height * disc.width + to : degree + to;
      for (int x = 0; x < columns; ++x) out[x] = sums[x];
      if (k == classes) break;
      T *inner = tile.inner + k * WIDTH<T>, *outer = tile.outer + k * WIDTH<T>;
      for (int x = 0; x < disc.COLUMNS; x += WIDTH<T>) {
        const Pack<T> own = take(planes + i64(k) * room + x);  // zero outside the image
        put(inner, take(inner) + own * take(sums + x));
        put(outer, take(outer) + own * take(own_degree + x));
      }
    }
  }
  for (int k = 0; k < classes; ++k) {
    totals[k] = tree_sum<WIDTH<T>>(tile.inner + k * WIDTH<T>);
    totals[classes + k] = tree_sum<WIDTH<T>>(tile.outer + k * WIDTH<T>);
  }
}

#endif
