// Squares of values in vectors, turned. Host only.

#ifndef __CUDACC__

// What neighbours alternate in: {a0, b0, a1, b1, …}.
template <int FROM, class V, std::size_t... I>
FN V interleave(V a, V b, std::index_sequence<I...>) {
  return V{(I % 2 ? b : a)[FROM + I / 2]...};
}

// v[i][j] ↔ v[j][i]
template <int N, class V>
FN void transpose(V (&v)[N]) {
  const auto indices = std::make_index_sequence<N>{};
  for (int step = 1; step < N; step *= 2) {
    V w[N];
    for (int i = 0; i < N / 2; ++i) {
      w[2 * i] = interleave<0>(v[i], v[i + N / 2], indices);
      w[2 * i + 1] = interleave<N / 2>(v[i], v[i + N / 2], indices);
    }
    for (int i = 0; i < N; ++i) v[i] = w[i];
  }
}

#endif
