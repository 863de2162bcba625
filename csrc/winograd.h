// The transforms of a masked convolution of 3×3 pixels in ordering 1, by Winograd's minimal
// filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016). Host
// only.
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

template <class T>
FN int deep_of(int channels) {
  return whole_tall(whole_packs<T>(channels));
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

#endif
