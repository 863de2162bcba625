// Four numbers beside each other in a row, moved at once on a GPU where they lie at multiples of 16
// bytes and rows end with a `whole` four.

#ifdef __CUDACC__

template <class T>
struct alignas(16) Four {
  T v[4];
};

template <class T>
FN Four<T> four_of(const T* from) {
  return *reinterpret_cast<const Four<T>*>(from);
}

// The first `count` of four in a row, zeros after them.
template <class T>
FN Four<T> load_four(const T* from, int count, bool whole) {
  Four<T> four{};
  if (whole) {
    if (count > 0) four = four_of(from);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (e < count) four.v[e] = from[e];
  }
  return four;
}

// Writes the first `count`, or adds them to what is there.
template <class T>
FN void store_four(Four<T> four, T* to, int count, bool whole, bool anew) {
  if (!anew) {
    const Four<T> before = load_four(to, count, whole);
#pragma unroll
    for (int e = 0; e < 4; ++e) four.v[e] += before.v[e];
  }
  if (whole) {
    if (count > 0) *reinterpret_cast<Four<T>*>(to) = four;
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (e < count) to[e] = four.v[e];
  }
}

// Four to shared memory, or zeros. They are there after `copied`.
template <class T>
FN void copy_four(Four<T>& to, const T* from, bool real) {
#if __CUDA_ARCH__ >= 800
  for (int i = 0; i < 4; i += 16 / sizeof(T))
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     u32(__cvta_generic_to_shared(to.v + i))),
                 "l"(from + i), "r"(real ? 16 : 0)
                 : "memory");
#else
  to = real ? four_of(from) : Four<T>{};
#endif
}

FN void copied() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

#endif
