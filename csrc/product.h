// Products of small matrices, of whole packs. Host only.

#ifndef __CUDACC__

// A tile of sums, as many as the registers hold: TALL rows of WIDE packs.
constexpr int TALL = LANES < 16 ? 4 : 8, WIDE = 3;

FN int whole_tall(int n) { return (n + TALL - 1) / TALL * TALL; }

// c (TALL, N packs) (+)= Σ_k a[i·row + k·step]·b[k·ldb + j]
template <int N, class T>
FN void multiply_tile(const T* a, i64 row, i64 step, const T* b, i64 ldb, int depth, T* c, i64 ldc,
                      bool add) {
  Pack<T> sum[TALL][N] = {};
  for (int k = 0; k < depth; ++k, a += step, b += ldb) {
    Pack<T> right[N];
    for (int j = 0; j < N; ++j) right[j] = take(b + j * WIDTH<T>);
    for (int i = 0; i < TALL; ++i) {
      const Pack<T> left = Pack<T>{} + a[i * row];
      for (int j = 0; j < N; ++j) sum[i][j] += left * right[j];
    }
  }
  for (int i = 0; i < TALL; ++i)
    for (int j = 0; j < N; ++j) {
      T* to = c + i * ldc + j * WIDTH<T>;
      put(to, add ? take(to) + sum[i][j] : sum[i][j]);
    }
}

// c (rows, columns) (+)= a·b, a (rows, depth) of any strides, b (depth, columns). Columns are whole
// packs, rows a multiple of TALL.
template <class T>
BODY void multiply(const T* a, i64 row, i64 step, const T* b, i64 ldb, int depth, T* c, i64 ldc,
                   int rows, int columns, bool add) {
  for (int j = 0; j < columns; j += WIDE * WIDTH<T>) {
    const int packs = (columns - j) / WIDTH<T>;
    for (int i = 0; i < rows; i += TALL) {
      const T* left = a + i * row;
      T* to = c + i * ldc + j;
      if (packs >= 3) multiply_tile<3>(left, row, step, b + j, ldb, depth, to, ldc, add);
      else if (packs == 2) multiply_tile<2>(left, row, step, b + j, ldb, depth, to, ldc, add);
      else multiply_tile<1>(left, row, step, b + j, ldb, depth, to, ldc, add);
    }
  }
}

#endif
