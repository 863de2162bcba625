// Vectors of float or double as long as the registers, and their exponential. Host only.

#ifndef __CUDACC__

template <class T>
struct PackOf {
  static constexpr int WIDTH = 4 * LANES / int(sizeof(T));
  typedef T Type __attribute__((vector_size(4 * LANES)));
};
template <>
struct PackOf<i64> {
  typedef i64 Type __attribute__((vector_size(4 * LANES)));
};
template <class T>
using Pack = typename PackOf<T>::Type;
template <class T>
constexpr int WIDTH = PackOf<T>::WIDTH;

template <class T>
FN Pack<T> take(const T* p) {
  Pack<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
FN void put(T* p, Pack<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

template <class T>
FN int whole_packs(int n) {
  return (n + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>;
}

template <class T>
struct Exponential;
template <>
struct Exponential<float> {
  using Bits = int;
  static constexpr int DEGREE = 7, FRACTION = 23;
  static constexpr float ROUND = 3 << 22, LEAST = -125;
};
template <>
struct Exponential<double> {
  using Bits = i64;
  static constexpr int DEGREE = 13, FRACTION = 52;
  static constexpr double ROUND = 3ll << 51, LEAST = -1021;
};

// ln(2)ᵏ/k!
constexpr double series(int k) { return k ? series(k - 1) * 0.693147180559945309417 / k : 1; }
template <int K, class T>
FN Pack<T> series_from(Pack<T> f) {
  if constexpr (K == Exponential<T>::DEGREE) return Pack<T>{} + T(series(K));
  else return series_from<K + 1, T>(f) * f + T(series(K));
}

// 2ᵗ for t ≤ 0; never 0: at least the smallest power of 2 with a reciprocal, or so. The series of
// 2ᶠ for the fraction f of t in [−½, ½], its exponent raised by the rest. Within 2 units in the
// last place, and faster than gathers from a table.
template <class T>
FN Pack<T> power_of_two(Pack<T> t) {
  using E = Exponential<T>;
  using Bits = Pack<typename E::Bits>;
  t = t < E::LEAST ? Pack<T>{} + E::LEAST : t;
  const Pack<T> whole = t + E::ROUND;  // an integer, in the lowest bits
  const Pack<T> sum = series_from<0, T>(t - (whole - E::ROUND));
  return (Pack<T>)((Bits)sum + ((Bits)whole << E::FRACTION));
}

#endif
