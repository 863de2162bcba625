// The filter matrices S = Aᵖ of a zero-padded Gaussian (fastseg/ops/inpaint/_gaussian.py), and the
// blur of whole planes with them.

constexpr int TABLE_PAD = 16;  // zeros on either side of a row

// The distinct rows of one axis' matrix: row i holds S[i, i−r … i+r].
template <class T>
struct Rows {
  const T* table;
  int size, radius, stride;

  // Only the first and last r rows differ from the middle's.
  FN const T* row(int i) const {
    if (size > 2 * radius + 1 && i >= radius) {
      const int from_end = i - size + 2 * radius + 1;
      i = from_end > radius ? from_end : radius;
    }
    return table + i * stride + TABLE_PAD;
  }
};

#ifndef __CUDACC__  // on a GPU planes are blurred by _triton.py

// Σ_k weights[k]·in[k·step …], N neighbouring results at once.
template <int N, class T>
FN void weighted_sum(const T* in, i64 step, const T* weights, int count, T* out) {
  T sum[N] = {};
  for (int k = 0; k < count; ++k)
    for (int n = 0; n < N; ++n) sum[n] += weights[k] * in[k * step + n];
  for (int n = 0; n < N; ++n) out[n] = sum[n];
}

template <int N, class T>
FN void weighted_sums(const T* in, i64 step, const T* weights, int count, int width, T* out) {
  int x = 0;
  for (; x + N <= width; x += N) weighted_sum<N>(in + x, step, weights, count, out + x);
  for (; x < width; ++x) weighted_sum<1>(in + x, step, weights, count, out + x);
}

// out = S_y · in · S_xᵀ; `across` holds one plane between the two axes.
template <class T>
void filter_plane(const T* in, T* out, T* across, const Rows<T>& fy, const Rows<T>& fx) {
  const int height = fy.size, width = fx.size, reach = fx.radius;
  for (int y = 0; y < height; ++y) {
    const T* row = in + i64(y) * width;
    T* to = across + i64(y) * width;
    auto edge = [&](int x) {
      const int first = x < reach ? 0 : x - reach;
      const int last = x + reach < width ? x + reach : width - 1;
      weighted_sum<1>(row + first, 1, fx.row(x) + first - x + reach, last + 1 - first, to + x);
    };
    const int inner = width > 2 * reach ? width - 2 * reach : 0;
    for (int x = 0; x < (inner ? reach : width); ++x) edge(x);
    if (inner) weighted_sums<4 * LANES>(row, 1, fx.row(reach), 2 * reach + 1, inner, to + reach);
    for (int x = reach + inner; inner && x < width; ++x) edge(x);
  }
  for (int y = 0; y < height; ++y) {
    const int first = y < fy.radius ? 0 : y - fy.radius;
    const int last = y + fy.radius < height ? y + fy.radius : height - 1;
    weighted_sums<4 * LANES>(across + i64(first) * width, width, fy.row(y) + first - y + fy.radius,
                             last + 1 - first, width, out + i64(y) * width);
  }
}

#endif
