// Maxima over a pyramid of bins of the bounding box of each region.
//
//   planes   neighbours in a vector down the rows of a bin, whose columns then become vectors of
//            channels: most comparisons are done before the turn, and whole lines are written
//   rows     channels in a vector

#ifndef __CUDACC__

// One image's regions, and the levels of the pyramid, finest first.
template <class T>
struct Spp {
  const int* labels;
  i64 width;
  const int* boxes;  // top, left, bottom, right
  int regions;
  const int* levels;
  const int* offsets;  // of each level's bins among those of a region
  int num_levels, bins;
  bool has_fill;
  T fill;
};

// Of `size` pixels from `start` on, bin i of n is [from, to).
struct Span {
  int from, to;

  FN Span(int start, int size, int i, int n)
      : from(start + int(i64(i) * size / n)), to(start + int(((i + 1ll) * size + n - 1) / n)) {}
};

// How maxima are joined. VALUE: the value alone. PLACE: and where it is. Neither sees a NaN; ANY
// does.
enum Rule { VALUE, PLACE, ANY };

// Largest so far, as Best: `own` says which lanes of v count, all of them at `where`.
template <Rule RULE, class V, class W>
FN void offer(Best<V, W>& best, V v, W own, W where) {
  if constexpr (RULE == VALUE) {
    const V seen = own ? v : best.value;
    best.value = seen > best.value ? seen : best.value;
  } else if constexpr (RULE == PLACE) {
    const V seen = own ? v : best.value;
    best.at = seen > best.value ? where : best.at;
    best.value = seen > best.value ? seen : best.value;
  } else {
    const W better = (W)((v <= best.value) == 0) & (W)(best.value == best.value) & own;
    best.value = better ? v : best.value;
    best.at = better ? where : best.at;
  }
}

template <Rule RULE, class V, class W>
FN void join(Best<V, W>& best, V v, W at) {
  if constexpr (RULE == VALUE) {
    best.value = v > best.value ? v : best.value;
  } else if constexpr (RULE == PLACE) {
    const W sooner = at < best.at ? at : best.at;
    best.at = v > best.value ? at : v == best.value ? sooner : best.at;
    best.value = v > best.value ? v : best.value;
  } else {
    best.join(v, at);
  }
}

// The bins of one region for N channels.
template <int N, class T>
struct Bin {
  Best<Vec<T, N>, Vec<Whole<T>, N>> best;
  bool own, strange;  // holds pixels of the region, and others

  FN void clear() {
    best.value = Vec<T, N>{} + LOWEST<T>;
    best.at = Vec<Whole<T>, N>{} + NOWHERE<Whole<T>>;
    own = strange = false;
  }
};

// The row `row` of the bins of a level, of `count` planes x[k·step + p]. Where the image is
// narrower than a vector, N values may be read from any pixel on. False if there is a NaN.
template <Rule RULE, int N, class T>
FN bool scan_planes(const Spp<T>& spp, const T* x, i64 step, int count, int region, int level,
                    int row, Bin<N, T>* bins) {
  using V = Vec<T, N>;
  using W = Vec<Whole<T>, N>;
  const int* box = spp.boxes + 4 * i64(region);
  const int left = box[1], right = box[3];
  const Span rows(box[0], box[2] - box[0], row, level);
  W lanes;
  for (int i = 0; i < N; ++i) lanes[i] = i;
  // Planes at once, as many as registers hold; sums that do not wait for one another.
  constexpr int GROUP = RULE == VALUE ? N : N / 2, SUMS = GROUP < 4 ? GROUP : 4;
  V sum[SUMS] = {};
  for (int b = 0; b < level; ++b) bins[b].clear();
  for (int from = left; from < right;) {
    const int start = spp.width < N || from + N <= spp.width ? from : int(spp.width) - N;
    const int end = start + N < right ? start + N : right;
    const i64 first = rows.from * spp.width + start;
    V value[N];
    W at[N], own, strange;
    for (int k = 0; k < N; k += GROUP) {
      Best<V, W> best[GROUP];
      i64 plane[GROUP];
      for (int i = 0; i < GROUP; ++i) {
        best[i] = {V{} + LOWEST<T>, W{} + NOWHERE<Whole<T>>};
        plane[i] = (k + i < count ? k + i : 0) * step;
      }
      own = strange = W{};
      W where = lanes + Whole<T>(first);
      const T* p = x + first;
      const int* l = spp.labels + first;
      for (int y = rows.from; y < rows.to; ++y, p += spp.width, l += spp.width) {
        const W labels = __builtin_convertvector(take<Vec<int, N>>(l), W);
        const W inside = (W)(labels == Whole<T>(region));
        own |= inside;
        strange |= ~inside;
        for (int i = 0; i < GROUP; ++i) {
          const V v = take<V>(p + plane[i]);
          offer<RULE>(best[i], v, inside, where);
          if (RULE != ANY) sum[i % SUMS] = inside ? sum[i % SUMS] + v : sum[i % SUMS];
        }
        if (RULE != VALUE) where += Whole<T>(spp.width);
      }
      for (int i = 0; i < GROUP; ++i) {
        value[k + i] = best[i].value;
        if (RULE != VALUE) at[k + i] = best[i].at;
      }
    }
    transpose<N>(value);
    if constexpr (RULE != VALUE) transpose<N>(at);
    for (int b = 0; b < level; ++b) {
      const Span columns(left, right - left, b, level);
      Bin<N, T>& bin = bins[b];
      auto best = bin.best;
      bool any = bin.own, other = bin.strange;
      const int last = columns.to < end ? columns.to : end;
      for (int c = columns.from > from ? columns.from : from; c < last; ++c) {
        join<RULE>(best, value[c - start], RULE == VALUE ? W{} : at[c - start]);
        any |= own[c - start] != 0;
        other |= strange[c - start] != 0;
      }
      bin = {best, any, other};
    }
    from = end;
  }
  for (int i = 1; i < SUMS; ++i) sum[0] += sum[i];
  const T total = tree_sum<N>(reinterpret_cast<const T*>(sum));
  return RULE == ANY || total == total;
}

// As scan_planes, of M·N channels of rows: x[p·channels + c].
template <Rule RULE, int M, int N, class T>
FN bool scan_rows(const Spp<T>& spp, const T* x, i64 channels, int region, int level, int row,
                  Bin<N, T>* bins) {
  using V = Vec<T, N>;
  using W = Vec<Whole<T>, N>;
  const int* box = spp.boxes + 4 * i64(region);
  const Span rows(box[0], box[2] - box[0], row, level);
  V sum{};
  for (int b = 0; b < level; ++b) {
    const Span columns(box[1], box[3] - box[1], b, level);
    Bin<N, T> bin[M];
    for (int m = 0; m < M; ++m) bin[m].clear();
    bool own = false, strange = false;
    for (int y = rows.from; y < rows.to; ++y) {
      const i64 end = y * spp.width + columns.to;
      for (i64 p = y * spp.width + columns.from; p < end; ++p) {
        const bool inside = spp.labels[p] == region;
        own |= inside;
        strange |= !inside;
        if (!inside) continue;
        for (int m = 0; m < M; ++m) {
          const V v = take<V>(x + p * channels + m * N);
          offer<RULE>(bin[m].best, v, ~W{}, W{} + Whole<T>(p));
          if (RULE != ANY) sum += v;
        }
      }
    }
    for (int m = 0; m < M; ++m) bins[b * M + m] = {bin[m].best, own, strange};
  }
  const T total = tree_sum<N>(reinterpret_cast<const T*>(&sum));
  return RULE == ANY || total == total;
}

// A bin of level n is the union of k×k bins of level n·k.
template <Rule RULE, int M, int N, class T>
FN void join_bins(const Bin<N, T>* fine, int level, int k, int row, int column, Bin<N, T>& bin) {
  bin.clear();
  for (int y = row * k; y < (row + 1) * k; ++y)
    for (int x = column * k; x < (column + 1) * k; ++x) {
      const Bin<N, T>& part = fine[(y * level + x) * M];
      bin.own |= part.own;
      bin.strange |= part.strange;
      join<RULE>(bin.best, part.best.value, part.best.at);
    }
}

// All bins of a region, M beside one another; scan(rule, level, row, bins) does a row of a level
// that is no union of finer ones. False if there is a NaN.
template <Rule RULE, int M, int N, class T, class Scan>
FN bool pool_region(const Spp<T>& spp, Bin<N, T>* bins, Scan scan) {
  bool clean = true;
  for (int i = 0; i < spp.num_levels; ++i) {
    const int level = spp.levels[i];
    int from = 0;
    while (from < i && spp.levels[from] % level) ++from;
    const Bin<N, T>* fine = bins + i64(spp.offsets[from]) * M;
    for (int row = 0; row < level; ++row) {
      Bin<N, T>* to = bins + (i64(spp.offsets[i]) + row * level) * M;
      if (from == i) {
        clean &= scan(std::integral_constant<Rule, RULE>{}, level, row, to);
        continue;
      }
      const int k = spp.levels[from] / level;
      for (int b = 0; b < level * M; ++b)
        join_bins<RULE, M>(fine + b % M, spp.levels[from], k, row, b / M, to[b]);
    }
  }
  return clean;
}

// Where a bin's maximum is although none was larger than −∞: its first pixel of the region.
template <class T>
FN int first_pixel(const Spp<T>& spp, int region, int bin) {
  const int* box = spp.boxes + 4 * i64(region);
  int i = 0;
  while (bin < spp.offsets[i] || bin >= spp.offsets[i] + spp.levels[i] * spp.levels[i]) ++i;
  const int level = spp.levels[i], b = bin - spp.offsets[i];
  const Span rows(box[0], box[2] - box[0], b / level, level);
  const Span columns(box[1], box[3] - box[1], b % level, level);
  for (int y = rows.from; y < rows.to; ++y)
    for (int x = columns.from; x < columns.to; ++x)
      if (spp.labels[y * spp.width + x] == region) return int(y * spp.width + x);
  return -1;
}

// `count` channels of a bin, and where they are unless that is null.
template <int N, class T>
FN void put_bin(const Spp<T>& spp, int region, int number, const Bin<N, T>& bin, int count, T* out,
                int* argmax) {
  using W = Vec<Whole<T>, N>;
  Vec<T, N> value = bin.best.value;
  W at = bin.best.at;
  const bool fills = bin.strange && spp.has_fill;
  if (!bin.own) value = Vec<T, N>{} + (fills ? spp.fill : T(0));
  W below{};
  if (fills) below = (W)(value < spp.fill);
  value = below ? Vec<T, N>{} + spp.fill : value;
  if (count == N) put(out, value);
  else
    for (int k = 0; k < count; ++k) out[k] = value[k];
  if (!argmax) return;
  for (int k = 0; k < N; ++k)
    if (bin.own && at[k] == NOWHERE<Whole<T>>) at[k] = first_pixel(spp, region, number);
  at = below ? ~W{} : at;
  if (!bin.own) at = ~W{};
  if (count == N) put(argmax, __builtin_convertvector(at, Vec<int, N>));
  else
    for (int k = 0; k < count; ++k) argmax[k] = int(at[k]);
}

// out[(r·bins + bin)·channels + c] and where it is, −1 if at no pixel of the region; no places if
// argmax is null. M·N channels, of which `count` are there.
template <int M, int N, class T, class Scan>
FN void pool_regions(const Spp<T>& spp, Bin<N, T>* bins, i64 channels, int count, T* out,
                     int* argmax, Scan scan) {
  for (int r = 0; r < spp.regions; ++r) {
    const int* box = spp.boxes + 4 * i64(r);
    auto row = [&](auto rule, int level, int y, Bin<N, T>* to) {
      return scan(rule, r, level, y, to);
    };
    const bool there = box[2] > box[0];
    if (!there)
      for (int b = 0; b < spp.bins * M; ++b) bins[b].clear();
    else if (!(argmax ? pool_region<PLACE, M>(spp, bins, row)
                      : pool_region<VALUE, M>(spp, bins, row)))
      pool_region<ANY, M>(spp, bins, row);
    for (int b = 0; b < spp.bins; ++b)
      for (int m = 0; m < M; ++m) {
        const i64 at = (i64(r) * spp.bins + b) * channels + m * N;
        put_bin(spp, r, b, bins[b * M + m], count < N ? count : N, out + at,
                argmax ? argmax + at : nullptr);
      }
  }
}

// N planes, of which `count` are there.
template <int N, class T>
BODY void spp_planes(const Spp<T>& spp, const T* x, i64 size, int count, i64 channels, char* memory,
                     T* out, int* argmax) {
  auto scan = [&](auto rule, int r, int level, int row, Bin<N, T>* to) {
    return scan_planes<rule.value, N>(spp, x, size, count, r, level, row, to);
  };
  pool_regions<1, N>(spp, reinterpret_cast<Bin<N, T>*>(memory), channels, count, out, argmax, scan);
}

// M·N channels of rows.
template <int M, int N, class T>
BODY void spp_rows(const Spp<T>& spp, const T* x, i64 channels, char* memory, T* out, int* argmax) {
  auto scan = [&](auto rule, int r, int level, int row, Bin<N, T>* to) {
    return scan_rows<rule.value, M, N>(spp, x, channels, r, level, row, to);
  };
  pool_regions<M, N>(spp, reinterpret_cast<Bin<N, T>*>(memory), channels, N, out, argmax, scan);
}

#endif
