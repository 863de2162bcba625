// The bounding box of each region resampled to one size, 0 where the nearest pixel is not of the
// region; and the adjoint.
//
//   planes   two rows of the box are blended with neighbours in a vector, the result is turned into
//            vectors of channels and resampled across
//   rows     channels in a vector
//
// Either way a pixel of the result is a vector of channels, to be turned into planes as it is
// written.

#ifndef __CUDACC__

// One image's regions.
struct Resize {
  const int* labels;
  i64 width;
  const int* boxes;  // top, left, bottom, right
  int regions;
  int tall, wide;  // of a result

  int size() const { return tall * wide; }
};

// Where one row or column of a result comes from.
template <class T>
struct Tap {
  int low, high;
  T weight;  // of high
  int nearest;
};

// i of n, of `size` pixels from `start` on: as PyTorch's interpolate, "bilinear" with
// align_corners=False and "nearest", whose scale is single.
template <class T>
FN Tap<T> tap_of(int start, int size, int i, int n) {
  const double at = (i + 0.5) * size / n - 0.5;
  const int low = at > 0 ? int(at) : 0;
  const int high = at > low && low + 1 < size ? low + 1 : low;
  const int nearest = int(float(i) * (float(size) / float(n)));
  return {start + low, start + high, at > 0 ? T(at - low) : T(0),
          start + (nearest < size ? nearest : size - 1)};
}

// What a block works in.
template <int N, class T>
struct Room {
  Vec<T, N>* pixels;  // of a result
  Tap<T>*rows, *columns;

  static i64 bytes(const Resize& job) {
    return job.size() * i64(sizeof(Vec<T, N>)) + (job.tall + job.wide) * i64(sizeof(Tap<T>));
  }
  FN Room(const Resize& job, char* memory)
      : pixels(reinterpret_cast<Vec<T, N>*>(memory)),
        rows(reinterpret_cast<Tap<T>*>(pixels + job.size())),
        columns(rows + job.tall) {}

  FN void aim(const Resize& job, const int* box) {
    for (int i = 0; i < job.tall; ++i) rows[i] = tap_of<T>(box[0], box[2] - box[0], i, job.tall);
    for (int j = 0; j < job.wide; ++j) columns[j] = tap_of<T>(box[1], box[3] - box[1], j, job.wide);
  }
};

template <int N, class T>
FN bool is_own(const Resize& job, const Room<N, T>& room, int region, int i, int j) {
  return job.labels[room.rows[i].nearest * job.width + room.columns[j].nearest] == region;
}

// planes[k·size + q] of pixels[q][k], q < size and k < count.
template <int N, class T>
FN void put_pixels(const Vec<T, N>* pixels, i64 size, int count, T* planes) {
  for (i64 q = 0; q < size; q += N) {
    const int there = size - q < N ? int(size - q) : N;
    Vec<T, N> v[N];
    for (int i = 0; i < N; ++i) v[i] = pixels[q + (i < there ? i : 0)];
    transpose<N>(v);
    for (int k = 0; k < count; ++k)
      if (there == N) put(planes + k * size + q, v[k]);
      else
        for (int i = 0; i < there && i < N; ++i) planes[k * size + q + i] = v[k][i];
  }
}

template <int N, class T>
FN void take_pixels(const T* planes, i64 size, int count, Vec<T, N>* pixels) {
  for (i64 q = 0; q < size; q += N) {
    const int there = size - q < N ? int(size - q) : N;
    Vec<T, N> v[N] = {};
    for (int k = 0; k < count; ++k)
      if (there == N) v[k] = take<Vec<T, N>>(planes + k * size + q);
      else
        for (int i = 0; i < there && i < N; ++i) v[k][i] = planes[k * size + q + i];
    transpose<N>(v);
    for (int i = 0; i < there; ++i) pixels[q + i] = v[i];
  }
}

// Blocks of N columns that hold all taps of the row: f(first column, from, to) for the columns
// [from, to) of the result.
template <int N, class T, class F>
FN void each_block(const Resize& job, const Room<N, T>& room, F f) {
  for (int from = 0; from < job.wide;) {
    const int low = room.columns[from].low, last = int(job.width) - N;
    const int start = low < last || last < 0 ? low : last;
    int to = from;
    while (to < job.wide && room.columns[to].high < start + N) ++to;
    f(start, from, to);
    from = to;
  }
}

// The row i of a result, of `count` planes x[k·step + p].
template <int N, class T>
FN void resize_row(const Resize& job, const Room<N, T>& room, const T* x, i64 step, int count,
                   int region, int i) {
  const Tap<T> row = room.rows[i];
  each_block(job, room, [&](int start, int from, int to) {
    const T* low = x + row.low * job.width + start;
    const T* high = x + row.high * job.width + start;
    Vec<T, N> column[N];
    for (int k = 0; k < N; ++k) {
      const i64 plane = (k < count ? k : 0) * step;
      column[k] = (1 - row.weight) * take<Vec<T, N>>(low + plane) +
                  row.weight * take<Vec<T, N>>(high + plane);
    }
    transpose<N>(column);
    for (int j = from; j < to; ++j) {
      const Tap<T> tap = room.columns[j];
      const Vec<T, N> pixel =
          (1 - tap.weight) * column[tap.low - start] + tap.weight * column[tap.high - start];
      room.pixels[i * job.wide + j] = is_own(job, room, region, i, j) ? pixel : Vec<T, N>{};
    }
  });
}

// The adjoint of resize_row, added to x.
template <int N, class T>
FN void spread_row(const Resize& job, const Room<N, T>& room, T* x, i64 step, int count, int region,
                   int i) {
  const Tap<T> row = room.rows[i];
  each_block(job, room, [&](int start, int from, int to) {
    Vec<T, N> column[N] = {};
    for (int j = from; j < to; ++j) {
      if (!is_own(job, room, region, i, j)) continue;
      const Tap<T> tap = room.columns[j];
      const Vec<T, N> pixel = room.pixels[i * job.wide + j];
      column[tap.low - start] += (1 - tap.weight) * pixel;
      column[tap.high - start] += tap.weight * pixel;
    }
    transpose<N>(column);
    auto add = [&](T* to, T weight) {
      for (int k = 0; k < count; ++k)
        put(to + k * step, take<Vec<T, N>>(to + k * step) + weight * column[k]);
    };
    add(x + row.low * job.width + start, 1 - row.weight);
    add(x + row.high * job.width + start, row.weight);
  });
}

// The four pixels of rows x[p·channels] that pixel (i, j) of a result is made of: f(pixel, weight).
template <int N, class T, class F>
FN void each_corner(const Resize& job, const Room<N, T>& room, int i, int j, F f) {
  const Tap<T> row = room.rows[i], column = room.columns[j];
  const i64 low = row.low * job.width, high = row.high * job.width;
  f(low + column.low, (1 - row.weight) * (1 - column.weight));
  f(low + column.high, (1 - row.weight) * column.weight);
  f(high + column.low, row.weight * (1 - column.weight));
  f(high + column.high, row.weight * column.weight);
}

// f(i, j) for the pixels of a result that are of the region.
template <int N, class T, class F>
FN void each_own(const Resize& job, const Room<N, T>& room, int region, F f) {
  for (int i = 0; i < job.tall; ++i)
    for (int j = 0; j < job.wide; ++j)
      if (is_own(job, room, region, i, j)) f(i, j);
}

// f(region) for each that is there; else the results' `count` planes are 0, if they are written.
template <class T, class F>
FN void each_region(const Resize& job, i64 channels, int count, T* out, F f) {
  for (int r = 0; r < job.regions; ++r) {
    const int* box = job.boxes + 4 * i64(r);
    if (box[2] > box[0]) f(r, box);
    else if (out)
      for (i64 i = 0; i < i64(count) * job.size(); ++i) out[r * channels * job.size() + i] = 0;
  }
}

// out[(r·channels + k)·size + q] of N planes of which `count` are there. Where the image is
// narrower than a vector, N values may be read from any pixel on.
template <int N, class T>
BODY void resize_planes(const Resize& job, const T* x, i64 step, int count, i64 channels,
                        char* memory, T* out) {
  Room<N, T> room(job, memory);
  each_region(job, channels, count, out, [&](int r, const int* box) {
    room.aim(job, box);
    for (int i = 0; i < job.tall; ++i) resize_row(job, room, x, step, count, r, i);
    put_pixels<N>(room.pixels, job.size(), count, out + r * channels * job.size());
  });
}

// The adjoint, into planes that are written and not added to; N values may be there from any pixel
// on, as above.
template <int N, class T>
BODY void spread_planes(const Resize& job, const T* z, i64 channels, i64 step, int count,
                        char* memory, T* x) {
  Room<N, T> room(job, memory);
  for (i64 p = 0; p < count * step; ++p) x[p] = 0;
  each_region(job, channels, count, static_cast<T*>(nullptr), [&](int r, const int* box) {
    room.aim(job, box);
    take_pixels<N>(z + r * channels * job.size(), job.size(), count, room.pixels);
    for (int i = 0; i < job.tall; ++i) spread_row(job, room, x, step, count, r, i);
  });
}

// As resize_planes, of N channels of rows.
template <int N, class T>
BODY void resize_rows(const Resize& job, const T* x, i64 channels, char* memory, T* out) {
  using V = Vec<T, N>;
  Room<N, T> room(job, memory);
  each_region(job, channels, N, out, [&](int r, const int* box) {
    room.aim(job, box);
    for (int q = 0; q < job.size(); ++q) room.pixels[q] = V{};
    each_own(job, room, r, [&](int i, int j) {
      V pixel{};
      each_corner(job, room, i, j,
                  [&](i64 p, T weight) { pixel += weight * take<V>(x + p * channels); });
      room.pixels[i * job.wide + j] = pixel;
    });
    put_pixels<N>(room.pixels, job.size(), N, out + r * channels * job.size());
  });
}

// As spread_planes, into N channels of rows.
template <int N, class T>
BODY void spread_rows(const Resize& job, const T* z, i64 channels, i64 size, char* memory, T* x) {
  using V = Vec<T, N>;
  Room<N, T> room(job, memory);
  for (i64 p = 0; p < size; ++p) put(x + p * channels, V{});
  each_region(job, channels, N, static_cast<T*>(nullptr), [&](int r, const int* box) {
    room.aim(job, box);
    take_pixels<N>(z + r * channels * job.size(), job.size(), N, room.pixels);
    each_own(job, room, r, [&](int i, int j) {
      const V pixel = room.pixels[i * job.wide + j];
      each_corner(job, room, i, j, [&](i64 p, T weight) {
        put(x + p * channels, take<V>(x + p * channels) + weight * pixel);
      });
    });
  });
}

#endif
