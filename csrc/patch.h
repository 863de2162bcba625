// Pixels anywhere in memory, and copies of them in rows of packs of channels. Host only.

#ifndef __CUDACC__

// Channels of pixels, anywhere in memory.
template <class T>
struct Pixels {
  T* data;
  i64 channel, row, column;  // strides
  int channels, height, width;

  T* at(int y, int x) const { return data + y * row + x * column; }
  Pixels from(int first, int count) const {
    return {data + first * channel, channel, row, column, count, height, width};
  }
};

// Pixels in rows of packs of channels.
template <class T>
struct Patch {
  T* data;
  int width, channels;  // the latter whole packs

  FN T* at(int y, int x) const { return data + (i64(y) * width + x) * channels; }
};

// WIDTH<T> channels of WIDTH<T> pixels that are neighbours in memory, `step` being 1 or −1.
template <class T>
FN void load_square(const T* from, i64 channel, i64 step, T* to, i64 next) {
  constexpr int N = WIDTH<T>;
  Pack<T> v[N];
  for (int i = 0; i < N; ++i) v[i] = take(from + i * channel - (step < 0 ? N - 1 : 0));
  transpose<N>(v);
  for (int i = 0; i < N; ++i) put(to + i * next, v[step < 0 ? N - 1 - i : i]);
}

template <class T>
FN void store_square(T* to, i64 channel, i64 step, const T* from, i64 next) {
  constexpr int N = WIDTH<T>;
  Pack<T> v[N];
  for (int i = 0; i < N; ++i) v[step < 0 ? N - 1 - i : i] = take(from + i * next);
  transpose<N>(v);
  for (int i = 0; i < N; ++i) put(to + i * channel - (step < 0 ? N - 1 : 0), v[i]);
}

// Lines of pixels between x, by its strides, and a patch, by `next` and `line`: in squares where
// pixels are neighbours in memory, the last of which may overlap the one before.
template <bool LOAD, class T, class X>
FN void move_lines(X* x, i64 channel, i64 along, i64 across, T* patch, i64 next, i64 line, int n,
                   int lines, int channels) {
  constexpr int N = WIDTH<T>;
  const bool squares = (along == 1 || along == -1) && n >= N;
  const int whole = squares ? channels / N * N : 0;
  for (int i = 0; i < lines; ++i, x += across, patch += line) {
    for (int c = 0; c < whole; c += N)
      for (int j = 0; j < n; j += N) {
        const int at = j < n - N ? j : n - N;
        auto* there = x + c * channel + at * along;
        if constexpr (LOAD) load_square<T>(there, channel, along, patch + at * next + c, next);
        else store_square<T>(there, channel, along, patch + at * next + c, next);
      }
    for (int j = 0; j < n; ++j)
      for (int c = whole; c < channels; ++c) {
        auto* there = x + c * channel + j * along;
        if constexpr (LOAD) patch[j * next + c] = *there;
        else *there = patch[j * next + c];
      }
  }
}

// Part of x, as long as a patch's channels, from (top, left) on; 0 outside.
template <class T>
FN void load_patch(const Pixels<const T>& x, int top, int left, int height, const Patch<T>& patch) {
  constexpr int N = WIDTH<T>;
  const int y0 = top < 0 ? -top : 0, x0 = left < 0 ? -left : 0;
  const int y1 = x.height - top < height ? x.height - top : height;
  const int x1 = x.width - left < patch.width ? x.width - left : patch.width;
  const bool tail = x.channels < patch.channels;
  for (int i = 0; i < height; ++i)
    for (int j = 0; j < patch.width; ++j)
      if (i < y0 || i >= y1 || j < x0 || j >= x1 || tail) {
        T* to = patch.at(i, j);
        for (int c = 0; c < patch.channels; c += N) put(to + c, Pack<T>{});
      }
  if (y1 <= y0 || x1 <= x0) return;
  const T* from = x.at(top + y0, left + x0);
  const i64 next = patch.channels, line = i64(patch.width) * patch.channels;
  T* to = patch.at(y0, x0);
  if (x.channel == 1) {
    for (int i = y0; i < y1; ++i, from += x.row, to += line)
      for (int j = 0; j < x1 - x0; ++j) {
        int c = 0;
        for (; c + N <= x.channels; c += N) put(to + j * next + c, take(from + j * x.column + c));
        for (; c < x.channels; ++c) to[j * next + c] = from[j * x.column + c];
      }
  } else if (x.row == 1 || x.row == -1) {
    move_lines<true>(from, x.channel, x.row, x.column, to, line, next, y1 - y0, x1 - x0,
                     x.channels);
  } else {
    move_lines<true>(from, x.channel, x.column, x.row, to, next, line, x1 - x0, y1 - y0,
                     x.channels);
  }
}

template <class T>
FN void store_patch(const Patch<T>& patch, int height, int width, const Pixels<T>& x, int top,
                    int left) {
  const i64 next = patch.channels, line = i64(patch.width) * patch.channels;
  T* to = x.at(top, left);
  if (x.row == 1 || x.row == -1)
    move_lines<false>(to, x.channel, x.row, x.column, patch.data, line, next, height, width,
                      x.channels);
  else
    move_lines<false>(to, x.channel, x.column, x.row, patch.data, next, line, width, height,
                      x.channels);
}

#endif
