// Sums and maxima over the regions of an image, and their adjoint, by runs: stretches of one row
// that lie in one region. Runs come in raster order.
//
//   planes   x[C][HW], neighbours in a vector: a region's partial results stay one a lane until
//            the end, so that a run costs a masked load and an addition
//   rows     x[HW][C], channels in a vector

#ifndef __CUDACC__

struct Run {
  int first, end, region;  // pixels
};

// The last, partial vector of a run, shifted back where it would leave the plane.
template <class T>
struct Tail {
  i64 from;
  Vec<Whole<T>> inside;

  FN Tail(i64 at, i64 end, i64 size, Vec<Whole<T>> lanes) {
    from = at < size - WIDE<T> ? at : size - WIDE<T>;
    inside = (Vec<Whole<T>>)((lanes >= Whole<T>(at - from)) & (lanes < Whole<T>(end - from)));
  }
};

// --- planes -------------------------------------------------------------------------------------

// out[r·channels + k] = Σ over region r of plane k; `memory` holds regions·P vectors; size ≥ WIDE.
template <int P, class T>
BODY void sum_planes(const T* x, i64 size, const Run* runs, int count, int regions, char* memory,
                     T* out, i64 channels) {
  Vec<T>* sums = reinterpret_cast<Vec<T>*>(memory);
  for (i64 i = 0; i < i64(regions) * P; ++i) sums[i] = Vec<T>{};
  const auto lanes = lane_numbers<T>();
  for (const Run* run = runs; run < runs + count; ++run) {
    Vec<T>* to = sums + i64(run->region) * P;
    Vec<T> sum[P];
    for (int k = 0; k < P; ++k) sum[k] = to[k];
    i64 at = run->first;
    for (; at + WIDE<T> <= run->end; at += WIDE<T>)
      for (int k = 0; k < P; ++k) sum[k] += take<Vec<T>>(x + k * size + at);
    if (at < run->end) {
      const Tail<T> tail(at, run->end, size, lanes);
      for (int k = 0; k < P; ++k) {
        const auto bits = (Vec<Whole<T>>)take<Vec<T>>(x + k * size + tail.from);
        sum[k] += (Vec<T>)(bits & tail.inside);
      }
    }
    for (int k = 0; k < P; ++k) to[k] = sum[k];
  }
  for (int r = 0; r < regions; ++r)
    for (int k = 0; k < P; ++k)
      out[r * channels + k] = tree_sum<WIDE<T>>(reinterpret_cast<const T*>(sums + i64(r) * P + k));
}

template <class T>
using Bests = Best<Vec<T>, Vec<Whole<T>>>;

// The best of N that have seen different pixels, half against half.
template <int N, class T>
FN Best<T, Whole<T>> best_of(const T* value, const Whole<T>* at) {
  if constexpr (N == 1) {
    return {*value, *at};
  } else {
    using V = Vec<T, N / 2>;
    using W = Vec<Whole<T>, N / 2>;
    Best<V, W> best{take<V>(value), take<W>(at)};
    best.join(take<V>(value + N / 2), take<W>(at + N / 2));
    return best_of<N / 2, T>(reinterpret_cast<const T*>(&best.value),
                             reinterpret_cast<const Whole<T>*>(&best.at));
  }
}

FN int first_pixel(const Run* run, int region) {
  while (run->region != region) ++run;
  return run->first;
}

// What a region holds at the end: 0 and −1 where it is empty; all −∞ was never taken.
template <class T>
FN void put_best(T value, Whole<T> at, const Run* runs, int region, int pixels, T* out,
                 int* argmax) {
  if (pixels && at == NOWHERE<Whole<T>>) at = first_pixel(runs, region);
  *out = pixels ? value : 0;
  *argmax = pixels ? int(at) : -1;
}

// As sum_planes; `memory` holds regions·P pairs of vectors, pixels[r] is the size of region r.
template <int P, class T>
BODY void max_planes(const T* x, i64 size, const Run* runs, int count, int regions,
                     const int* pixels, char* memory, T* out, int* argmax, i64 channels) {
  Bests<T>* bests = reinterpret_cast<Bests<T>*>(memory);
  const Vec<T> lowest = Vec<T>{} + LOWEST<T>;
  const auto nowhere = Vec<Whole<T>>{} + NOWHERE<Whole<T>>;
  for (i64 i = 0; i < i64(regions) * P; ++i) bests[i] = {lowest, nowhere};
  const auto lanes = lane_numbers<T>();
  for (const Run* run = runs; run < runs + count; ++run) {
    Bests<T>* to = bests + i64(run->region) * P;
    Bests<T> best[P];
    for (int k = 0; k < P; ++k) best[k] = to[k];
    i64 at = run->first;
    for (; at + WIDE<T> <= run->end; at += WIDE<T>)
      for (int k = 0; k < P; ++k)
        best[k].offer(take<Vec<T>>(x + k * size + at), lanes + Whole<T>(at));
    if (at < run->end) {
      const Tail<T> tail(at, run->end, size, lanes);
      for (int k = 0; k < P; ++k) {
        const auto v = take<Vec<T>>(x + k * size + tail.from);
        best[k].offer(tail.inside ? v : lowest, lanes + Whole<T>(tail.from));
      }
    }
    for (int k = 0; k < P; ++k) to[k] = best[k];
  }
  for (int r = 0; r < regions; ++r)
    for (int k = 0; k < P; ++k) {
      const Bests<T>& lane = bests[i64(r) * P + k];
      const auto best = best_of<WIDE<T>>(reinterpret_cast<const T*>(&lane.value),
                                         reinterpret_cast<const Whole<T>*>(&lane.at));
      const i64 i = r * channels + k;
      put_best<T>(best.value, best.at, runs, r, pixels[r], out + i, argmax + i);
    }
}

// out[p] = z[r·channels] for p in region r, 0 in none. A vector may be written past the end of its
// run: what follows is written later.
template <class T>
BODY void unpool_plane(const T* z, i64 channels, i64 size, const Run* runs, int count, T* out) {
  i64 done = 0;
  auto fill = [&](i64 end, T value) {
    const Vec<T> values = Vec<T>{} + value;
    for (; done < end && done + WIDE<T> <= size; done += WIDE<T>) put(out + done, values);
    for (; done < end; ++done) out[done] = value;
    done = end;
  };
  for (const Run* run = runs; run < runs + count; ++run) {
    if (done < run->first) fill(run->first, 0);
    fill(run->end, z[run->region * channels]);
  }
  fill(size, 0);
}

// out[at[r·channels]] += z[r·channels] where that is a pixel, 0 elsewhere.
template <class T>
BODY void scatter_plane(const T* z, const int* at, i64 channels, i64 size, int regions, T* out) {
  for (i64 p = 0; p < size; ++p) out[p] = 0;
  for (i64 i = 0; i < regions * channels; i += channels)
    if (at[i] >= 0) out[at[i]] += z[i];
}

// --- rows ---------------------------------------------------------------------------------------

template <int N, class V, class T>
FN void sum_strip(const T* x, i64 step, int count, T* out) {
  constexpr int width = sizeof(V) / sizeof(T);
  V sum[N] = {};
  for (int p = 0; p < count; ++p)
    for (int i = 0; i < N; ++i) sum[i] += take<V>(x + p * step + i * width);
  for (int i = 0; i < N; ++i) put(out + i * width, take<V>(out + i * width) + sum[i]);
}

// out[r·channels + c] = Σ over region r of channel c, for the channels [from, to).
template <class T>
BODY void sum_rows(const T* x, i64 channels, i64 from, i64 to, const Run* runs, int count,
                   int regions, T* out) {
  for (i64 r = 0; r < regions; ++r)
    for (i64 c = from; c < to; ++c) out[r * channels + c] = 0;
  for (const Run* run = runs; run < runs + count; ++run) {
    const T* pixel = x + run->first * channels;
    T* sums = out + run->region * channels;
    const int pixels = run->end - run->first;
    i64 c = from;
    for (; c + 4 * FULL<T> <= to; c += 4 * FULL<T>)
      sum_strip<4, Vec<T, FULL<T>>>(pixel + c, channels, pixels, sums + c);
    for (; c + FULL<T> <= to; c += FULL<T>)
      sum_strip<1, Vec<T, FULL<T>>>(pixel + c, channels, pixels, sums + c);
    for (; c < to; ++c) sum_strip<1, T>(pixel + c, channels, pixels, sums + c);
  }
}

template <int N, class V, class W, class T>
FN void max_strip(const T* x, i64 step, int first, int count, T* out, Whole<T>* at) {
  constexpr int width = sizeof(V) / sizeof(T);
  Best<V, W> best[N];
  for (int i = 0; i < N; ++i) best[i] = {take<V>(out + i * width), take<W>(at + i * width)};
  for (int p = 0; p < count; ++p)
    for (int i = 0; i < N; ++i)
      best[i].offer(take<V>(x + p * step + i * width), W{} + Whole<T>(first + p));
  for (int i = 0; i < N; ++i) {
    put(out + i * width, best[i].value);
    put(at + i * width, best[i].at);
  }
}

// As sum_rows; `memory` holds a Whole<T> for each region and each of the channels [from, to).
template <class T>
BODY void max_rows(const T* x, i64 channels, i64 from, i64 to, const Run* runs, int count,
                   int regions, const int* pixels, char* memory, T* out, int* argmax) {
  Whole<T>* at = reinterpret_cast<Whole<T>*>(memory);
  const i64 width = to - from;
  for (i64 i = 0; i < regions * width; ++i) at[i] = NOWHERE<Whole<T>>;
  for (i64 r = 0; r < regions; ++r)
    for (i64 c = from; c < to; ++c) out[r * channels + c] = LOWEST<T>;
  for (const Run* run = runs; run < runs + count; ++run) {
    const T* pixel = x + run->first * channels;
    T* values = out + run->region * channels;
    Whole<T>* places = at + run->region * width - from;
    const int n = run->end - run->first;
    i64 c = from;
    for (; c + 4 * FULL<T> <= to; c += 4 * FULL<T>)
      max_strip<4, Vec<T, FULL<T>>, Vec<Whole<T>, FULL<T>>>(pixel + c, channels, run->first, n,
                                                            values + c, places + c);
    for (; c + FULL<T> <= to; c += FULL<T>)
      max_strip<1, Vec<T, FULL<T>>, Vec<Whole<T>, FULL<T>>>(pixel + c, channels, run->first, n,
                                                            values + c, places + c);
    for (; c < to; ++c)
      max_strip<1, T, Whole<T>>(pixel + c, channels, run->first, n, values + c, places + c);
  }
  for (int r = 0; r < regions; ++r)
    for (i64 c = from; c < to; ++c) {
      const i64 i = r * channels + c;
      put_best<T>(out[i], at[r * width + c - from], runs, r, pixels[r], out + i, argmax + i);
    }
}

// out[p·channels + c] = z[r·channels + c] for p in region r, 0 in none; the channels [from, to).
template <class T>
BODY void unpool_rows(const T* z, i64 channels, i64 from, i64 to, i64 size, const Run* runs,
                      int count, T* out) {
  i64 done = 0;
  auto fill = [&](i64 end, const T* values) {
    for (; done < end; ++done) {
      T* pixel = out + done * channels;
      i64 c = from;
      for (; c + FULL<T> <= to; c += FULL<T>)
        put(pixel + c, values ? take<Vec<T, FULL<T>>>(values + c) : Vec<T, FULL<T>>{});
      for (; c < to; ++c) pixel[c] = values ? values[c] : 0;
    }
  };
  for (const Run* run = runs; run < runs + count; ++run) {
    fill(run->first, nullptr);
    fill(run->end, z + run->region * channels);
  }
  fill(size, nullptr);
}

// As scatter_plane, for the channels [from, to).
template <class T>
BODY void scatter_rows(const T* z, const int* at, i64 channels, i64 from, i64 to, i64 size,
                       int regions, T* out) {
  for (i64 p = 0; p < size; ++p)
    for (i64 c = from; c < to; ++c) out[p * channels + c] = 0;
  for (i64 r = 0; r < regions; ++r)
    for (i64 c = from; c < to; ++c) {
      const i64 i = r * channels + c;
      if (at[i] >= 0) out[at[i] * channels + c] += z[i];
    }
}

#endif
