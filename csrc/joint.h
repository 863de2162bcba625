// Sums over squares of pixels, products of label fields over displacements. Host only.

#ifndef __CUDACC__

// --- sums over squares --------------------------------------------------------------------------

// out[i] = Σ in[i … i+w−1] for i in [0, n), in place; in[n … n+w−2] is read, and lost. Sums of 1,
// 2, 4 … neighbours, those put together that w has as binary digits: nothing is ever subtracted.
template <class T>
FN void window_sums(T* row, T* sums, int n, int w) {
  const int all = n + w - 1;
  for (int i = 0; i < n; i += WIDTH<T>) put(sums + i, Pack<T>{});
  for (int length = 1, done = 0; length <= w; length *= 2) {
    if (w & length) {
      for (int i = 0; i < n; i += WIDTH<T>) put(sums + i, take(sums + i) + take(row + i + done));
      done += length;
    }
    if (2 * length > w) break;
    for (int i = 0; i < all; i += WIDTH<T>) put(row + i, take(row + i) + take(row + i + length));
  }
}

// One plane; `memory` as box_memory says.
template <class T>
BODY void box_plane(const T* in, T* out, int height, int width, int radius, T* memory) {
  const int w = 2 * radius + 1, wide = whole_packs<T>(width);
  const int room = whole_packs<T>(wide + w) + 2 * w + WIDTH<T>;
  T* row = memory;
  T* across = row + room;                   // (height, wide)
  T* suffix = across + i64(height) * wide;  // (w, WIDTH)
  for (int y = 0; y < height; ++y) {
    for (int i = 0; i < room; ++i) row[i] = 0;
    for (int x = 0; x < width; ++x) row[radius + x] = in[i64(y) * width + x];
    window_sums(row, across + i64(y) * wide, wide, w);
  }
  // Down: the end of one block of w rows and the beginning of the next make every window.
  const Pack<T> zero = {};
  for (int x = 0; x < wide; x += WIDTH<T>) {
    auto at = [&](int y) { return y >= 0 && y < height ? take(across + i64(y) * wide + x) : zero; };
    for (int y0 = 0; y0 < height; y0 += w) {
      Pack<T> sum = zero;
      for (int j = w - 1; j >= 0; --j) put(suffix + j * WIDTH<T>, sum += at(y0 - radius + j));
      Pack<T> next = zero;
      for (int j = 0; j < w && y0 + j < height; ++j) {
        const Pack<T> window = take(suffix + j * WIDTH<T>) + next;
        T* to = out + i64(y0 + j) * width + x;
        if (x + WIDTH<T> <= width) put(to, window);
        else
          for (int i = 0; x + i < width; ++i) to[i] = window[i];
        next += at(y0 - radius + w + j);
      }
    }
  }
}

template <class T>
i64 box_memory(int height, int width, int radius) {
  const i64 w = 2 * i64(radius) + 1, wide = whole_packs<T>(width);
  return sizeof(T) *
         (whole_packs<T>(int(wide + w)) + 2 * w + WIDTH<T> + height * wide + w * WIDTH<T>);
}

// --- products over displacements ----------------------------------------------------------------

// Rows [from, to) of one image: p as it is, q shifted by `dy`, both with zeros around.
template <class T>
struct Strip {
  const T *p, *q;  // (K, rows, wide), (L, rows, wide + 2·radius)
  int rows, wide, room;
};

// sums[(dx·K + k)·L + l] += Σ over the strip, for I × J of the k and l.
template <int I, int J, class T>
FN void multiply_strip(const Strip<T>& s, int k, int l, i64 step, int side, int others,
                       double* sums) {
  for (int dx = 0; dx < side; ++dx) {
    Pack<T> sum[I][J] = {};
    for (int y = 0; y < s.rows; ++y) {
      const T* p = s.p + (i64(k) * s.rows + y) * s.wide;
      const T* q = s.q + (i64(l) * s.rows + y) * s.room + dx;
      for (int x = 0; x < s.wide; x += WIDTH<T>) {
        Pack<T> a[I];
        for (int i = 0; i < I; ++i) a[i] = take(p + i64(i) * s.rows * s.wide + x);
        for (int j = 0; j < J; ++j) {
          const Pack<T> b = take(q + i64(j) * s.rows * s.room + x);
          for (int i = 0; i < I; ++i) sum[i][j] += a[i] * b;
        }
      }
    }
    for (int i = 0; i < I; ++i)
      for (int j = 0; j < J; ++j)
        sums[dx * step + i64(k + i) * others + l + j] +=
            tree_sum<WIDTH<T>>(reinterpret_cast<const T*>(&sum[i][j]));
  }
}

// f(I, J, i, j) for tiles of I × J that cover `rows` × `columns`; the rest by single ones.
template <int N>
struct Int {
  static constexpr int value = N;
};
template <int I, int J, class F>
FN void each_tile(int rows, int columns, F f) {
  int i = 0;
  for (; i + I <= rows; i += I) {
    int j = 0;
    for (; j + J <= columns; j += J) f(Int<I>{}, Int<J>{}, i, j);
    for (; j < columns; ++j) f(Int<I>{}, Int<1>{}, i, j);
  }
  for (; i < rows; ++i) {
    int j = 0;
    for (; j + J <= columns; j += J) f(Int<1>{}, Int<J>{}, i, j);
    for (; j < columns; ++j) f(Int<1>{}, Int<1>{}, i, j);
  }
}

constexpr int TILE = LANES < 16 ? 2 : 3;  // as many sums as there are registers

struct Fields {
  int batch, classes, others, height, width, radius;
};

template <class T>
constexpr int strip_rows(const Fields& f) {
  const i64 row = i64(f.classes + f.others) * (f.width + 2 * f.radius) * i64(sizeof(T));
  const i64 rows = (1 << 17) / row;
  return rows < 4 ? 4 : rows > f.height ? f.height : int(rows);
}

template <class T>
i64 product_memory(const Fields& f) {
  const i64 wide = whole_packs<T>(f.width);
  return strip_rows<T>(f) * (f.classes * wide + f.others * (wide + 2 * f.radius)) * sizeof(T);
}

// sums (2T+1,K,L) of vertical displacement dy over share `part` of `parts` of the strips.
template <class T>
BODY void displaced_products(const Fields& f, const T* p, const T* q, int dy, int part, int parts,
                             T* memory, double* sums) {
  const int side = 2 * f.radius + 1, rows = strip_rows<T>(f), wide = whole_packs<T>(f.width);
  const i64 step = i64(f.classes) * f.others, plane = i64(f.height) * f.width;
  const int strips = (f.height + rows - 1) / rows;
  const i64 first = i64(f.batch) * strips * part / parts;
  const i64 end = i64(f.batch) * strips * (part + 1) / parts;
  for (i64 i = 0; i < side * step; ++i) sums[i] = 0;
  for (i64 at = first; at < end; ++at) {
    const i64 image = at / strips;
    const int y0 = int(at % strips) * rows;
    Strip<T> s = {memory, memory, y0 + rows < f.height ? rows : f.height - y0, wide,
                  wide + 2 * f.radius};
    T* to = memory;
    auto copy = [&](const T* from, int planes, int shift, int left, int room) {
      for (i64 k = 0; k < planes; ++k)
        for (int y = y0 + shift; y < y0 + shift + s.rows; ++y, to += room) {
          const T* row = from + (image * planes + k) * plane + i64(y) * f.width;
          const int width = y >= 0 && y < f.height ? f.width : 0;
          for (int x = 0; x < left; ++x) to[x] = 0;
          for (int x = 0; x < width; ++x) to[left + x] = row[x];
          for (int x = left + width; x < room; ++x) to[x] = 0;
        }
    };
    copy(p, f.classes, 0, 0, s.wide);
    s.q = to;
    copy(q, f.others, dy, f.radius, s.room);
    each_tile<TILE, TILE>(f.classes, f.others, [&](auto I, auto J, int k, int l) {
      multiply_strip<I.value, J.value>(s, k, l, step, side, f.others, sums);
    });
  }
}

#endif
