// Real transforms of whole planes on a GPU, in shared memory: a block reads a plane once and writes
// its half spectrum once, or the other way round (the host's body is spectra.h). Transforms are in
// place, with no pass that puts frequencies in order: forwards they end, backwards they begin, in
// that of their digits reversed, and products of spectra do not care. A plane is ROWS × COLUMNS,
// both even and without prime factors above 7.

#ifdef __CUDACC__

constexpr int HALF = COLUMNS / 2, WIDE = HALF + 1;  // numbers of a row taken in pairs, frequencies

template <class T>
struct alignas(2 * sizeof(T)) Complex {
  T re, im;
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
FN Complex<T> operator*(Complex<T> a, Complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class T>
FN Complex<T> conjugate(Complex<T> a) {
  return {a.re, -a.im};
}
template <class T>
FN Complex<T> turned(Complex<T> a) {  // i·a
  return {-a.im, a.re};
}

template <int N>
constexpr int RADIX = N % 4 == 0   ? 4
                      : N % 2 == 0 ? 2
                      : N % 3 == 0 ? 3
                      : N % 5 == 0 ? 5
                                   : 7;

// x[k] = Σ_j x[j]·exp(∓2πi·jk/R); the roots of R are `apart` in the table.
template <int R, bool BACK, class T>
FN void butterfly(Complex<T> (&x)[R], const Complex<T>* roots, int apart) {
  if constexpr (R == 2) {
    const Complex<T> difference = x[0] - x[1];
    x[0] = x[0] + x[1], x[1] = difference;
  } else if constexpr (R == 4) {
    const Complex<T> even = x[0] + x[2], odd = x[1] + x[3], a = x[0] - x[2];
    const Complex<T> b = turned(BACK ? x[1] - x[3] : x[3] - x[1]);
    x[0] = even + odd, x[1] = a + b, x[2] = even - odd, x[3] = a - b;
  } else {
    Complex<T> root[R], sum[R / 2], difference[R / 2];
    const Complex<T> first = x[0];
#pragma unroll
    for (int j = 0; j < R / 2; ++j) {
      root[j + 1] = roots[(j + 1) * apart], root[R - 1 - j] = conjugate(root[j + 1]);
      sum[j] = x[j + 1] + x[R - 1 - j];
      difference[j] = BACK ? x[R - 1 - j] - x[j + 1] : x[j + 1] - x[R - 1 - j];
      x[0] = x[0] + sum[j];
    }
#pragma unroll
    for (int k = 1; k <= R / 2; ++k) {
      Complex<T> a = first, b = {0, 0};
#pragma unroll
      for (int j = 0; j < R / 2; ++j) {
        const Complex<T> w = root[(j + 1) * k % R];
        a.re += w.re * sum[j].re, a.im += w.re * sum[j].im;
        b.re += w.im * difference[j].re, b.im += w.im * difference[j].im;
      }
      x[k] = a + turned(b), x[R - k] = a - turned(b);
    }
  }
}

// Where frequency f of a transform of N lies.
template <int N>
FN int place(int f) {
  if constexpr (N == 1) return 0;
  else return f % RADIX<N> * (N / RADIX<N>)+place<N / RADIX<N>>(f / RADIX<N>);
}

// i, from 0 to below twice as many as there are.
template <int N>
FN int wrapped(int i) {
  return i < N ? i : i - N;
}

// Rows of a plane from `first` on, and around its end.
struct Rows {
  int first, count;
  FN int operator()(int i) const { return wrapped<ROWS>(first + i); }
};

// f(row, column) for each of some rows and columns, what depends on the column being computed once.
template <class F>
FN void each_place(int rows, int columns, F f) {
  const int warp = int(threadIdx.x / 32), warps = int(blockDim.x / 32);
  for (int column = int(threadIdx.x % 32); column < columns; column += 32)
#pragma unroll 4
    for (int row = warp; row < rows; row += warps) f(row, column);
}

// A plane (height,width) among zeros: its rows in threads' own order, several loads under way.
template <class T>
FN void load_plane(const T* from, int height, int width, int shift, Complex<T>* plane) {
  constexpr int BATCH = 4;
  const int warp = int(threadIdx.x / 32), warps = int(blockDim.x / 32);
  for (int column = int(threadIdx.x % 32); column < WIDE; column += 32) {
    const int left = wrapped<COLUMNS>(2 * column + shift);
    const int right = wrapped<COLUMNS>(2 * column + 1 + shift);
    for (int first = warp; first < ROWS; first += BATCH * warps) {
      Complex<T> pair[BATCH];
#pragma unroll
      for (int i = 0; i < BATCH; ++i) {
        const int row = first + i * warps, y = wrapped<ROWS>(row + shift);
        const bool inside = row < ROWS && y < height && column < HALF;
        pair[i].re = inside && left < width ? from[y * width + left] : T(0);
        pair[i].im = inside && right < width ? from[y * width + right] : T(0);
      }
#pragma unroll
      for (int i = 0; i < BATCH; ++i) {
        const int row = first + i * warps;
        if (row < ROWS) plane[row * WIDE + column] = pair[i];
      }
    }
  }
}

// All columns of a plane, or some rows as HALF complex numbers, by passes over ever smaller parts
// of each (LEFT long at last); backwards over ever larger ones.
template <bool DOWN, bool BACK, int LEFT = DOWN ? ROWS : HALF, class T>
FN void transform(Complex<T>* plane, Rows rows, const Complex<T>* roots) {
  if constexpr (LEFT > 1) {
    constexpr int N = DOWN ? ROWS : HALF, R = RADIX<LEFT>, REST = LEFT / R,
                  STRIDE = DOWN ? WIDE : 1;
    constexpr int STEP = DOWN ? 1 : 2;  // between roots of N in their table
    if constexpr (BACK) transform<DOWN, BACK, REST>(plane, rows, roots);
    const int count = (DOWN ? WIDE : rows.count) * (N / R);
    for (int t = int(threadIdx.x); t < count; t += int(blockDim.x)) {
      const int b = DOWN ? t / WIDE : t % (N / R), i = b % REST;
      Complex<T>* line = plane + (DOWN ? t % WIDE : rows(t / (N / R)) * WIDE);
      line += (b / REST * LEFT + i) * STRIDE;
      Complex<T> x[R];
#pragma unroll
      for (int k = 0; k < R; ++k) {
        x[k] = line[k * REST * STRIDE];
        if (BACK && k && REST > 1) x[k] = x[k] * conjugate(roots[i * k * (N / LEFT) * STEP]);
      }
      butterfly<R, BACK>(x, roots, N / R * STEP);
#pragma unroll
      for (int k = 0; k < R; ++k) {
        if (!BACK && k && REST > 1) x[k] = x[k] * roots[i * k * (N / LEFT) * STEP];
        line[k * REST * STRIDE] = x[k];
      }
    }
    __syncthreads();
    if constexpr (!BACK) transform<DOWN, BACK, REST>(plane, rows, roots);
  }
}

// Between the spectrum of a row's numbers taken in pairs, E + i·O of the even and the odd ones, and
// that of the row, E + w·O: at each frequency f and HALF − f.
template <bool BACK, class T>
FN void untangle(Complex<T>* plane, Rows rows, const Complex<T>* roots) {
  each_place(rows.count, HALF / 2 + 1, [&](int i, int f) {
    Complex<T>* row = plane + rows(i) * WIDE;
    if (f == 0) {  // real, and HALF in a place of its own
      const T x = row[0].re, y = BACK ? row[HALF].re : row[0].im;
      if (BACK) row[0] = {(x + y) / 2, (x - y) / 2};
      else row[0] = {x + y, 0}, row[HALF] = {x - y, 0};
      return;
    }
    Complex<T>*low = row + place<HALF>(f), *high = row + place<HALF>(HALF - f);
    const Complex<T> a = *low, b = conjugate(*high), w = roots[f];
    const Complex<T> even = {(a.re + b.re) / 2, (a.im + b.im) / 2};
    const Complex<T> odd = turned(Complex<T>{(a.re - b.re) / 2, (a.im - b.im) / 2});
    const Complex<T> other = BACK ? odd * conjugate(w) : odd * w;
    *low = BACK ? even + other : even - other;
    *high = conjugate(BACK ? even - other : even + other);
  });
  __syncthreads();
}

#endif
