// Spectra of overlapping tiles of planes, their products, and back. Host only.

#ifndef __CUDACC__

// Tile i of an axis has the pixels [i·step, (i+1)·step); its window starts a radius before them and
// is `size` long.
struct Axis {
  int pixels, count, step, size;
};

// A half spectrum has rows.size × wide frequencies. They lie in blocks of BLOCK of a row, a
// multiple of every register: real parts, then imaginary ones; below a block lies the next. Of all
// tiles: (blocks, K, R, 2, BLOCK), R the tiles of all images.
constexpr int BLOCK = 16;

template <class T>
struct Tiling {
  Axis rows, columns;
  int radius, wide;
  const T* roots;  // cos(2πt/n) and −sin(2πt/n) of the n = rows.size roots of 1
  const T* table;  // of the products along the other axis
  i64 pitch;       // of its rows
};

// --- transforms of any length without prime factors above 7 -------------------------------------

template <class T>
struct Complex {
  Pack<T> re, im;
};
template <class T>
FN Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T>
FN Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T>
FN Complex<T> turned(Complex<T> a) {  // −i·a
  return {a.im, -a.re};
}

// x[k] = Σ_j x[j]·exp(−2πi·jk/R), the roots `apart` in a table of n.
template <int R, class T>
FN void butterfly(Complex<T>* x, const T* roots, int n, int apart) {
  if constexpr (R == 2) {
    const Complex<T> difference = x[0] - x[1];
    x[0] = x[0] + x[1];
    x[1] = difference;
  } else if constexpr (R == 4) {
    const Complex<T> even = x[0] + x[2], odd = x[1] + x[3];
    const Complex<T> a = x[0] - x[2], b = turned(x[1] - x[3]);
    x[0] = even + odd, x[1] = a + b, x[2] = even - odd, x[3] = a - b;
  } else {
    Complex<T> sum[R / 2], difference[R / 2], first = x[0];
    for (int j = 0; j < R / 2; ++j) {
      sum[j] = x[j + 1] + x[R - 1 - j];
      difference[j] = x[j + 1] - x[R - 1 - j];
      x[0] = x[0] + sum[j];
    }
    for (int k = 1; k <= R / 2; ++k) {
      Complex<T> a = first, b = {};
      for (int j = 0; j < R / 2; ++j) {
        const T* root = roots + (j + 1) * k % R * apart;
        a.re += root[0] * sum[j].re, a.im += root[0] * sum[j].im;
        b.re -= root[n] * difference[j].re, b.im -= root[n] * difference[j].im;
      }
      x[k] = a + turned(b);
      x[R - k] = a - turned(b);
    }
  }
}

// One pass of Stockham's transform: `from` has n/left transforms of `left` values each.
template <int R, class T>
FN void transform_pass(const T* from, T* to, int left, int n, const T* roots) {
  constexpr int P = WIDTH<T>;
  const int rest = left / R, stride = n / left;
  for (int i = 0; i < rest; ++i)
    for (int j = 0; j < stride; ++j) {
      Complex<T> x[R];
      for (int k = 0; k < R; ++k) {
        const T* at = from + i64(2 * P) * (j + stride * (i + rest * k));
        x[k] = {take(at), take(at + P)};
      }
      butterfly<R>(x, roots, n, n / R);
      for (int k = 0; k < R; ++k) {
        const T re = roots[i * k * stride], im = roots[n + i * k * stride];
        T* at = to + i64(2 * P) * (j + stride * (R * i + k));
        put(at, k ? x[k].re * re - x[k].im * im : x[k].re);
        put(at + P, k ? x[k].re * im + x[k].im * re : x[k].im);
      }
    }
}

// Transforms n complex packs, real parts before imaginary ones; returns which of the two has them.
template <class T>
FN T* transform(T* x, T* other, int n, const T* roots) {
  for (int left = n; left > 1;) {
    const int radix = left % 4 == 0 ? 4 : left % 2 == 0 ? 2 : left % 3 == 0 ? 3 : left % 5 ? 7 : 5;
    if (radix == 4) transform_pass<4>(x, other, left, n, roots);
    else if (radix == 2) transform_pass<2>(x, other, left, n, roots);
    else if (radix == 3) transform_pass<3>(x, other, left, n, roots);
    else if (radix == 5) transform_pass<5>(x, other, left, n, roots);
    else transform_pass<7>(x, other, left, n, roots);
    left /= radix;
    T* swap = x;
    x = other, other = swap;
  }
  return x;
}

// --- between planes and spectra ------------------------------------------------------------------

// c (rows, columns) = a (rows, count) · b (count, columns), the rows of b whole packs.
template <class T>
FN void multiply_rows(const T* a, i64 pitch_a, int count, const T* b, i64 pitch_b, T* c,
                      i64 pitch_c, int rows, int columns) {
  constexpr int P = WIDTH<T>;
  each_tile < LANES<16 ? 4 : 8, 2>(
                  rows, whole_packs<T>(columns) / P,
                  [&](auto I, auto J, int y, int x) {
                    Pack<T> sum[I.value][J.value] = {};
                    for (int r = 0; r < count; ++r)
                      for (int j = 0; j < J.value; ++j) {
                        const Pack<T> v = take(b + r * pitch_b + (x + j) * P);
                        for (int i = 0; i < I.value; ++i) sum[i][j] += a[(y + i) * pitch_a + r] * v;
                      }
                    for (int i = 0; i < I.value; ++i)
                      for (int j = 0; j < J.value; ++j) {
                        T* to = c + (y + i) * pitch_c + (x + j) * P;
                        const int left = columns - (x + j) * P;
                        if (left >= P) put(to, sum[i][j]);
                        else
                          for (int e = 0; e < left; ++e) to[e] = sum[i][j][e];
                      }
                  });
}

template <class T>
i64 plane_memory(const Tiling<T>& t) {
  return sizeof(T) * (i64(t.rows.pixels) * 2 * t.wide + 4 * i64(t.rows.size) * WIDTH<T>);
}

struct Range {
  int begin, end;
};
// Pixels of tile i, and those around it that are within reach.
FN Range reach(const Axis& axis, int i, int around) {
  const int begin = i * axis.step - around, end = (i + 1) * axis.step + around;
  return {begin < 0 ? 0 : begin, end < axis.pixels ? end : axis.pixels};
}

// f(tile, x, block, at) for each pack of the columns of frequencies from x on, `at` in its block.
template <class T, class F>
FN void each_pack(const Tiling<T>& t, int column, F f) {
  for (int tile = 0; tile < t.rows.count; ++tile)
    for (int x = 0; x < t.wide; x += WIDTH<T>)
      f(tile, x, i64(x / BLOCK), (i64(tile) * t.columns.count + column) * 2 * BLOCK + x % BLOCK);
}

// The spectra of one plane's tiles, with `around` pixels around each; `out` is at its first tile,
// blocks are `pitch` apart.
template <class T>
BODY void plane_spectra(const Tiling<T>& t, const T* plane, int around, T* out, i64 pitch,
                        T* memory) {
  constexpr int P = WIDTH<T>;
  const int n = t.rows.size, width = t.columns.pixels;
  const Pack<T> zero = {};
  T* lines = memory;
  T* values = lines + i64(t.rows.pixels) * 2 * t.wide;
  for (int column = 0; column < t.columns.count; ++column) {
    const Range across = reach(t.columns, column, around);
    const i64 first = across.begin - (i64(column) * t.columns.step - t.radius);
    multiply_rows(plane + across.begin, width, across.end - across.begin, t.table + first * t.pitch,
                  t.pitch, lines, 2 * t.wide, t.rows.pixels, 2 * t.wide);
    each_pack(t, column, [&](int tile, int x, i64 block, i64 at) {
      const Range down = reach(t.rows, tile, around);
      const int start = tile * t.rows.step - t.radius;
      for (int i = 0; i < n; ++i) {
        const int y = start + i;
        const bool inside = y >= down.begin && y < down.end;
        const T* from = lines + i64(inside ? y : 0) * 2 * t.wide + x;
        put(values + i64(2 * i) * P, inside ? take(from) : zero);
        put(values + i64(2 * i + 1) * P, inside ? take(from + t.wide) : zero);
      }
      const T* from = transform(values, values + i64(2 * n) * P, n, t.roots);
      for (int i = 0; i < n; ++i) {
        T* to = out + (block * n + i) * pitch + at;
        put(to, take(from + i64(2 * i) * P));
        put(to + BLOCK, take(from + i64(2 * i + 1) * P));
      }
    });
  }
}

// One plane from the spectra of its tiles.
template <class T>
BODY void plane_pixels(const Tiling<T>& t, const T* spectra, i64 pitch, T* plane, T* memory) {
  constexpr int P = WIDTH<T>;
  const int n = t.rows.size, width = t.columns.pixels;
  T* lines = memory;
  T* values = lines + i64(t.rows.pixels) * 2 * t.wide;
  for (int column = 0; column < t.columns.count; ++column) {
    each_pack(t, column, [&](int tile, int x, i64 block, i64 at) {
      // With real and imaginary parts in each other's places the transform is its own inverse.
      for (int i = 0; i < n; ++i) {
        const T* from = spectra + (block * n + i) * pitch + at;
        put(values + i64(2 * i) * P, take(from + BLOCK));
        put(values + i64(2 * i + 1) * P, take(from));
      }
      const T* from = transform(values, values + i64(2 * n) * P, n, t.roots);
      const Range down = reach(t.rows, tile, 0);
      from += i64(2 * t.radius) * P;
      for (int y = down.begin; y < down.end; ++y, from += 2 * P) {
        T* to = lines + i64(y) * 2 * t.wide + x;
        put(to, take(from + P));
        put(to + t.wide, take(from));
      }
    });
    const Range across = reach(t.columns, column, 0);
    multiply_rows(lines, 2 * t.wide, 2 * t.wide, t.table, t.pitch, plane + across.begin, width,
                  t.rows.pixels, across.end - across.begin);
  }
}

// --- products ------------------------------------------------------------------------------------

// Complex a[r][i] of one block, at from + r·step + i·stride.
template <class T>
struct Spectra {
  const T* from;
  i64 step, stride;
};

// f(i, j, x, Re, Im) of Σ_r conj(a[r][i])·b[r][j] at the frequencies x … x+WIDTH−1.
template <class T, class F>
FN void multiply_spectra(const Spectra<T>& a, const Spectra<T>& b, int count, int rows, int columns,
                         F f) {
  for (int x = 0; x < BLOCK; x += WIDTH<T>)
    each_tile<TILE, TILE>(rows, columns, [&](auto I, auto J, int i0, int j0) {
      Pack<T> re[I.value][J.value] = {}, im[I.value][J.value] = {};
      const T* at_a = a.from + i0 * a.stride + x;
      const T* at_b = b.from + j0 * b.stride + x;
      for (int r = 0; r < count; ++r, at_a += a.step, at_b += b.step) {
        Pack<T> ar[I.value], ai[I.value];
        for (int i = 0; i < I.value; ++i) {
          ar[i] = take(at_a + i * a.stride);
          ai[i] = take(at_a + i * a.stride + BLOCK);
        }
        for (int j = 0; j < J.value; ++j) {
          const Pack<T> br = take(at_b + j * b.stride), bi = take(at_b + j * b.stride + BLOCK);
          for (int i = 0; i < I.value; ++i) {
            re[i][j] += ar[i] * br;
            re[i][j] += ai[i] * bi;
            im[i][j] += ar[i] * bi;
            im[i][j] -= ai[i] * br;
          }
        }
      }
      for (int i = 0; i < I.value; ++i)
        for (int j = 0; j < J.value; ++j) f(i0 + i, j0 + j, x, re[i][j], im[i][j]);
    });
}

// One block: out (K, L, 2, BLOCK) = Σ_r conj(p[k,r])·q[l,r], added to what is there if `add`.
template <class T>
BODY void join_block(const T* p, const T* q, int classes, int others, int tiles, bool add, T* out) {
  const i64 row = i64(tiles) * 2 * BLOCK;
  multiply_spectra<T>({p, 2 * BLOCK, row}, {q, 2 * BLOCK, row}, tiles, classes, others,
                      [&](int k, int l, int x, Pack<T> re, Pack<T> im) {
                        T* to = out + (i64(k) * others + l) * 2 * BLOCK + x;
                        put(to, add ? take(to) + re : re);
                        put(to + BLOCK, add ? take(to + BLOCK) + im : im);
                      });
}

// One block: out[k,r] = Σ_l conj(weights[k,l])·q[l,r].
template <class T>
BODY void mix_block(const T* weights, const T* q, int classes, int others, int tiles, T* out) {
  const i64 row = i64(tiles) * 2 * BLOCK;
  multiply_spectra<T>({weights, 2 * BLOCK, i64(others) * 2 * BLOCK}, {q, row, 2 * BLOCK}, others,
                      classes, tiles, [&](int k, int r, int x, Pack<T> re, Pack<T> im) {
                        T* to = out + k * row + r * 2 * BLOCK + x;
                        put(to, re);
                        put(to + BLOCK, im);
                      });
}

#endif
