// What is taken from the bounding box of each region: maxima over a pyramid of bins.

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

// WIDE channels of one bin.
template <class T>
struct Bin {
  Best<Vec<T>, Vec<Whole<T>>> best;
  int first;   // pixel of the region in raster order, −1 if there is none
  bool mixed;  // holds pixels that are not of the region
};

// strip[p][k] of `count` planes x[k][p], or of rows: the channels of a pixel fill a vector.
template <class T>
BODY void gather_planes(const T* x, i64 size, int count, T* strip) {
  constexpr int N = WIDE<T>;
  i64 p = 0;
  for (; count == N && p + N <= size; p += N) {
    T block[N][N];
    for (int k = 0; k < N; ++k) put(block[k], take<Vec<T>>(x + k * size + p));
    for (int i = 0; i < N; ++i)
      for (int k = 0; k < N; ++k) strip[(p + i) * N + k] = block[k][i];
  }
  for (; p < size; ++p)
    for (int k = 0; k < N; ++k) strip[p * N + k] = k < count ? x[k * size + p] : 0;
}

template <class T>
BODY void gather_rows(const T* x, i64 channels, i64 size, int count, T* strip) {
  constexpr int N = WIDE<T>;
  for (i64 p = 0; p < size; ++p)
    if (count == N) put(strip + p * N, take<Vec<T>>(x + p * channels));
    else
      for (int k = 0; k < N; ++k) strip[p * N + k] = k < count ? x[p * channels + k] : 0;
}

// Of `size` pixels from `start` on, bin i of n is [from, to).
struct Span {
  int from, to;

  FN Span(int start, int size, int i, int n)
      : from(start + int(i64(i) * size / n)), to(start + int(((i + 1ll) * size + n - 1) / n)) {}
};

template <class T>
FN void empty_bin(Bin<T>& bin) {
  bin.best.value = Vec<T>{} + LOWEST<T>;
  bin.best.at = Vec<Whole<T>>{} + NOWHERE<Whole<T>>;
  bin.first = -1;
  bin.mixed = false;
}

template <class T>
FN void scan_bin(const Spp<T>& spp, const T* strip, int region, Span rows, Span columns,
                 Bin<T>& bin) {
  empty_bin(bin);
  const Vec<T> lowest = bin.best.value;
  // Two take turns, since each waits for its own last comparison.
  auto best = bin.best, other = best;
  int own = 0, first = -1, strange = 0;
  for (int y = rows.from; y < rows.to; ++y) {
    i64 at = y * spp.width + columns.from;
    const i64 end = at + columns.to - columns.from;
    Vec<Whole<T>> where = Vec<Whole<T>>{} + Whole<T>(at);
    auto offer = [&](auto& to) {  // without a branch: the labels vary
      const int is_own = spp.labels[at] == region;
      const Vec<Whole<T>> inside = Vec<Whole<T>>{} - Whole<T>(is_own);
      to.offer(inside ? take<Vec<T>>(strip + at * WIDE<T>) : lowest, where);
      first = is_own > own ? int(at) : first;
      own |= is_own;
      strange |= !is_own;
      ++at;
      where += 1;
    };
    while (at + 1 < end) {
      offer(best);
      offer(other);
    }
    if (at < end) offer(best);
  }
  best.join(other.value, other.at);
  bin.best = best;
  bin.first = first;
  bin.mixed = strange;
}

// A bin of level n is the union of k×k bins of level n·k.
template <class T>
FN void join_bins(const Bin<T>* fine, int level, int k, int row, int column, Bin<T>& bin) {
  empty_bin(bin);
  for (int y = row * k; y < (row + 1) * k; ++y)
    for (int x = column * k; x < (column + 1) * k; ++x) {
      const Bin<T>& part = fine[y * level + x];
      bin.mixed |= part.mixed;
      if (part.first < 0) continue;
      bin.best.join(part.best.value, part.best.at);
      if (bin.first < 0 || part.first < bin.first) bin.first = part.first;
    }
}

template <class T>
FN void put_bin(const Spp<T>& spp, const Bin<T>& bin, int count, T* out, int* argmax) {
  Vec<T> value = bin.best.value;
  Vec<Whole<T>> at = bin.best.at;
  at = at == NOWHERE<Whole<T>> ? Vec<Whole<T>>{} + Whole<T>(bin.first) : at;
  if (bin.first < 0) {
    value = Vec<T>{} + (bin.mixed && spp.has_fill ? spp.fill : T(0));
  } else if (bin.mixed && spp.has_fill) {
    const auto below = value < spp.fill;
    value = below ? Vec<T>{} + spp.fill : value;
    at = below ? Vec<Whole<T>>{} - 1 : at;
  }
  if (count == WIDE<T>) {
    put(out, value);
    put(argmax, __builtin_convertvector(at, Vec<int, WIDE<T>>));
    return;
  }
  for (int k = 0; k < count; ++k) {
    out[k] = value[k];
    argmax[k] = int(at[k]);
  }
}

// out[(r·bins + bin)·channels + k] and where it is: −1 if at no pixel of the region.
template <class T>
BODY void pool_bins(const Spp<T>& spp, const T* strip, Bin<T>* bins, i64 channels, int count,
                    T* out, int* argmax) {
  for (int r = 0; r < spp.regions; ++r) {
    const int *box = spp.boxes + 4 * i64(r), height = box[2] - box[0], width = box[3] - box[1];
    for (int i = 0; i < spp.num_levels; ++i) {
      const int level = spp.levels[i];
      int from = 0;
      while (from < i && spp.levels[from] % level) ++from;
      const Bin<T>* fine = bins + spp.offsets[from];
      for (int b = 0; b < level * level; ++b) {
        Bin<T>& bin = bins[spp.offsets[i] + b];
        const int row = b / level, column = b % level;
        if (height == 0) empty_bin(bin);
        else if (from < i)
          join_bins(fine, spp.levels[from], spp.levels[from] / level, row, column, bin);
        else
          scan_bin(spp, strip, r, Span(box[0], height, row, level),
                   Span(box[1], width, column, level), bin);
      }
    }
    for (int b = 0; b < spp.bins; ++b) {
      const i64 at = (i64(r) * spp.bins + b) * channels;
      put_bin(spp, bins[b], count, out + at, argmax + at);
    }
  }
}

#endif
