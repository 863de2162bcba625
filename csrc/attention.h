// Causal attention of one head by blocks of BLOCK queries × BLOCK keys, whose products are never
// all in memory; its gradients make them anew. Host only: on a GPU PyTorch has its own.
//
// Rows come padded with zeros, in number to a multiple of BLOCK, in length to whole packs; queries
// multiplied by scale·log₂e, so that powers are of 2. Keys, and values for the gradients, come also
// transposed, a block of BLOCK columns after the other.

#ifndef __CUDACC__

constexpr int BLOCK = 96;

// A head: its count of rows, their padded count and length, whether queries see what is before them
// alone, and where its rows are.
template <class T>
struct Head {
  int count, rows, length;
  bool causal;
  const T *q, *k, *v, *kt, *vt;  // (rows, length), transposed (rows/BLOCK, length, BLOCK)
};

// What a query of row i sees in the block of keys that starts at `first`.
template <class T>
FN int seen(const Head<T>& head, int i, int first) {
  const int end = head.causal ? i + 1 : head.count;
  return end - first < BLOCK ? end - first : BLOCK;
}

// Turn powers' arguments s (BLOCK) into powers of 2, less `shift`, 0 beyond the first `count`;
// their sum.
template <class T>
FN T raise(T* s, T shift, int count) {
  Pack<T> sum{};
  for (int j = 0; j < BLOCK; j += WIDTH<T>) {
    const Pack<T> t = take(s + j) - shift, power = power_of_two<T>(t);
    put(s + j, t == t ? power : t);  // what is not a number stays so
  }
  for (int j = count; j < BLOCK; ++j) s[j] = 0;
  for (int j = 0; j < BLOCK; j += WIDTH<T>) sum += take(s + j);
  return tree_sum<WIDTH<T>>(reinterpret_cast<const T*>(&sum));
}

template <class T>
i64 attend_memory(int length) {
  return i64(sizeof(T)) * BLOCK * (BLOCK + length + 2);
}

// Block `at` of queries: out (rows, length), and the logarithms to base 2 of the sums, norm (rows).
template <class T>
BODY void attend(const Head<T>& head, int at, T* memory, T* out, T* norm) {
  const int length = head.length, first = at * BLOCK, blocks = head.rows / BLOCK;
  T *s = memory, *o = s + BLOCK * BLOCK, *most = o + i64(BLOCK) * length, *sum = most + BLOCK;
  constexpr T lowest = sizeof(T) == 4 ? -T(__FLT_MAX__) : -T(__DBL_MAX__);
  for (int i = 0; i < BLOCK; ++i) most[i] = lowest, sum[i] = 0;
  for (i64 i = 0; i < i64(BLOCK) * length; ++i) o[i] = 0;
  for (int block = 0; block < (head.causal ? at + 1 : blocks); ++block) {
    const i64 skipped = i64(block) * BLOCK * length;
    multiply(head.q + i64(first) * length, length, 1, head.kt + skipped, BLOCK, length, s, BLOCK,
             BLOCK, BLOCK, false);
    for (int i = 0; i < BLOCK; ++i) {
      T* row = s + i * BLOCK;
      const int count = seen(head, first + i, block * BLOCK);
      T greatest = most[i];
      if (count == BLOCK) {
        Pack<T> each = take(row);
        for (int j = WIDTH<T>; j < BLOCK; j += WIDTH<T>) {
          const Pack<T> v = take(row + j);
          each = v > each ? v : each;
        }
        for (int j = 0; j < WIDTH<T>; ++j) greatest = each[j] > greatest ? each[j] : greatest;
      } else {
        for (int j = 0; j < count; ++j) greatest = row[j] > greatest ? row[j] : greatest;
      }
      if (greatest > most[i]) {
        const T less = power_of_two<T>(Pack<T>{} + (most[i] - greatest))[0];
        sum[i] *= less, most[i] = greatest;
        for (int j = 0; j < length; j += WIDTH<T>) {
          T* to = o + i64(i) * length + j;
          put(to, take(to) * less);
        }
      }
      sum[i] += raise(row, greatest, count);
    }
    multiply(s, BLOCK, 1, head.v + skipped, length, BLOCK, o, length, BLOCK, length, true);
  }
  for (int i = 0; i < BLOCK; ++i) {
    T* to = out + i64(first + i) * length;
    for (int j = 0; j < length; j += WIDTH<T>) put(to + j, take(o + i64(i) * length + j) / sum[i]);
    norm[first + i] = most[i] + T(__builtin_log2(double(sum[i])));
  }
}

// Gradients: of out, g (rows, length), with its products with out, delta (rows); to dq (rows,
// length) added, dk and dv stored.
template <class T>
struct Back {
  const T *g, *norm, *delta;
  T *dq, *dk, *dv;
};

template <class T>
i64 attend_back_memory() {
  return i64(sizeof(T)) * 2 * BLOCK * BLOCK;
}

// Block `at` of keys.
template <class T>
BODY void attend_back(const Head<T>& head, const Back<T>& back, int at, T* memory) {
  const int length = head.length, blocks = head.rows / BLOCK;
  const i64 skipped = i64(at) * BLOCK * length;
  T *p = memory, *d = p + BLOCK * BLOCK;
  const int start = head.causal ? at : 0;
  for (int block = start; block < blocks; ++block) {
    const int first = block * BLOCK;
    const i64 before = i64(first) * length;
    const T *q = head.q + before, *g = back.g + before;
    multiply(q, length, 1, head.kt + skipped, BLOCK, length, p, BLOCK, BLOCK, BLOCK, false);
    multiply(g, length, 1, head.vt + skipped, BLOCK, length, d, BLOCK, BLOCK, BLOCK, false);
    for (int i = 0; i < BLOCK; ++i) {
      T *row = p + i * BLOCK, *of = d + i * BLOCK;
      const int count = first + i < head.count ? seen(head, first + i, at * BLOCK) : 0;
      raise(row, back.norm[first + i], count);
      const T delta = back.delta[first + i];
      for (int j = 0; j < BLOCK; j += WIDTH<T>) put(of + j, (take(of + j) - delta) * take(row + j));
    }
    const bool add = block > start;
    multiply(p, 1, BLOCK, g, length, BLOCK, back.dv + skipped, length, BLOCK, length, add);
    multiply(d, 1, BLOCK, q, length, BLOCK, back.dk + skipped, length, BLOCK, length, add);
    multiply(d, BLOCK, 1, head.k + skipped, length, BLOCK, back.dq + before, length, BLOCK, length,
             true);
  }
}

#endif
