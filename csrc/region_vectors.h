// Vectors of any type and width, for the kernels of regions.

#ifndef __CUDACC__

// An integer as wide as T: what a comparison of vectors gives, and where a maximum lies.
template <class T>
struct WholeOf {
  using Type = int;
};
template <>
struct WholeOf<double> {
  using Type = i64;
};
template <class T>
using Whole = typename WholeOf<T>::Type;

// Values in a vector of channels; and of neighbouring pixels, where one no wider than runs are long
// costs as much and takes less of the first-level cache.
template <class T>
constexpr int FULL = 4 * LANES / int(sizeof(T));
template <class T>
constexpr int WIDE = (LANES < 8 ? 4 * LANES : 32) / int(sizeof(T));

template <class T, int N>
struct VecOf {
  typedef T Type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N = WIDE<T>>
using Vec = typename VecOf<T, N>::Type;

template <class T>
constexpr T LOWEST = -T(__builtin_inff());
template <class W>
constexpr W NOWHERE = sizeof(W) == 4 ? W(0x7fffffff) : W(0x7fffffffffffffff);

// V is a vector, or a single value; p need not be aligned.
template <class V, class T>
FN V take(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T>
FN void put(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

template <class T, int N = WIDE<T>>
FN Vec<Whole<T>, N> lane_numbers() {
  Vec<Whole<T>, N> lanes;
  for (int i = 0; i < N; ++i) lanes[i] = i;
  return lanes;
}

// The largest value so far and where it is; the first of equals; a NaN is larger than all.
template <class V, class W>
struct Best {
  V value;
  W at;

  FN void offer(V v, W where) {
    const auto better = ((v <= value) == 0) & (value == value);
    value = better ? v : value;
    at = better ? where : at;
  }

  // Of one that has seen other pixels, before or after.
  FN void join(V v, W where) {
    const W equal = (W)(v == value) | ((W)(v != v) & (W)(value != value));
    const W better =
        (W)(v > value) | ((W)(v != v) & (W)(value == value)) | (equal & (W)(where < at));
    value = better ? v : value;
    at = better ? where : at;
  }
};

#endif
