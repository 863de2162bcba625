// Every centre to the mean of its pixels, summed in float32 in raster order.

constexpr int EXACT = 1 << 24;  // integers up to this add without rounding

// `count` integers from `value` on in steps of `step`, added one by one: to `sum` while that is
// exact, then to `rounded`.
FN void add_integers(int& sum, float& rounded, i64 value, int step, int count) {
  const i64 total = sum + count * value + i64(step) * count * (count - 1) / 2;
  if (total <= EXACT) {
    sum = int(total);
  } else {
    if (sum <= EXACT) rounded = float(sum), sum = EXACT + 1;
    for (int i = 0; i < count; ++i) rounded += float(value + i64(step) * i);
  }
}

// f(label, row, first column, column beyond the last) for each run of one label.
template <class F>
FN void each_run(const SlicProblem& p, const SlicState& s, int top, int bottom, F f) {
  for (int y = top; y < bottom; ++y) {
    const int* labels = s.row(p, y);
    for (int x = 0, end; x < p.width; x = end) {
      const int k = labels[x];
      for (end = x + 1; end < p.width && labels[end] == k;) ++end;
      if (k >= 0) f(k, y, x, end);
    }
  }
}

// Those lanes of `values` that are set, in their order, to `to` and beyond; their number.
FN int keep_set(int* to, Ints set, Ints values) {
  const u32 bits = bits_of(set);
#if FASTSEG_X86 && FASTSEG_LANES == 16
  store(to, (Ints)_mm512_maskz_compress_epi32(bits, (__m512i)values));
#else
  int* next = to;
  for (u32 left = bits; left; left &= left - 1) *next++ = lane(values, lowest_bit(left));
#endif
  return count_bits(bits);
}

// Adds colours, `count` of C channels that lie `pitch` apart, to a centre's.
template <int C>
FN void add_colours(float* centre, const float* colours, i64 pitch, int count) {
  float sum[C];
  for (int c = 0; c < C; ++c) sum[c] = centre[c];
  for (int i = 0; i < count; ++i)
    for (int c = 0; c < C; ++c) sum[c] += colours[c * pitch + i];
  for (int c = 0; c < C; ++c) centre[c] = sum[c];
}

// Adds runs of colours. Runs are short, and where each ends is hard to foresee; so their colours
// wait in a row for each centre, which is then summed at a stretch.
template <int C>
struct Adder {
  Tally* tallies;
  float *centres, *rows;
  int features, most, pitch;
  i64 plane;

  FN Adder(const SlicProblem& p, const SlicState& s)
      : tallies(s.tallies),
        centres(s.centres + 2),
        rows(s.waiting),
        features(p.features()),
        most(p.most_waiting()),
        pitch(p.waiting_pitch()),
        plane(p.plane()) {}

  FN void flush(int k) const {
    add_colours<C>(centres + i64(k) * features, rows + i64(k) * C * pitch, pitch,
                   tallies[k].waiting);
    tallies[k].waiting = 0;
  }

  FN void add(int k, const float* colours, int count) const {
    Tally& tally = tallies[k];
    if (tally.waiting + count > most) flush(k);
    if (count > most) return add_colours<C>(centres + i64(k) * features, colours, plane, count);
    float* row = rows + i64(k) * C * pitch + tally.waiting;
    int i = 0;
    do {
      for (int c = 0; c < C; ++c) store(row + c * pitch + i, load(colours + c * plane + i));
      i += LANES;
    } while (i < count);
    tally.waiting += count;
  }
};

// Of any number of channels.
template <>
struct Adder<0> {
  float* centres;
  int channels;
  i64 plane;

  FN Adder(const SlicProblem& p, const SlicState& s)
      : centres(s.centres + 2), channels(p.channels), plane(p.plane()) {}

  FN void flush(int) const {}

  FN void add(int k, const float* colours, int count) const {
    for (int i = 0; i < count; ++i)
      for (int c = 0; c < channels; ++c)
        centres[i64(k) * (2 + channels) + c] += colours[c * plane + i];
  }
};

// Centres [from, to), all of whose pixels lie in rows [top, bottom).
template <int C>
BODY void update(const SlicProblem& p, const SlicState& s, int from, int to, int top, int bottom) {
  constexpr int STRETCH = 256;  // columns of a row; what runs on beyond is another run
  const int channels = p.channels, features = p.features(), width = p.width, pitch = p.pitch();
  const Adder<C> adder(p, s);
  Tally* const tallies = s.tallies;
  float* const centres = s.centres;
  for (int k = from; k < to; ++k) s.tallies[k] = {0, 0, 0, 0};
  for (i64 i = i64(from) * features; i < i64(to) * features; ++i) s.centres[i] = 0;
  int starts[STRETCH + 1 + LANES];
  for (int y = top; y < bottom; ++y) {
    const int* labels = s.labels + i64(y) * pitch;
    const float* colours = s.colours + i64(y) * pitch;
    for (int left = 0; left < width; left += STRETCH) {
      const int end = smaller(left + STRETCH, width);
      int count = 1;
      starts[0] = left;
      for (int x = left + 1; x < end; x += LANES)
        count += keep_set(starts + count, load(labels + x) != load(labels + x - 1), LANE + x);
      while (starts[count - 1] >= end) --count;
      starts[count] = end;
      for (int i = 0; i < count; ++i) {
        const int x = starts[i], run = starts[i + 1] - x, k = labels[x];
        if (k < from || k >= to) continue;
        adder.add(k, colours + x, run);
        Tally& tally = tallies[k];
        float* centre = centres + i64(k) * features;
        tally.members += run;
        add_integers(tally.y, centre[0], y, 0, run);
        add_integers(tally.x, centre[1], x, 1, run);
      }
    }
  }
  for (int k = from; k < to; ++k) {
    adder.flush(k);
    const Tally& tally = tallies[k];
    float* centre = centres + i64(k) * features;
    if (tally.y <= EXACT) centre[0] = float(tally.y);
    if (tally.x <= EXACT) centre[1] = float(tally.x);
    for (int f = 0; f < features; ++f) centre[f] /= float(tally.members);  // NaN without pixels
  }
  if (!p.zero) return;
  each_run(p, s, top, bottom, [&](int k, int y, int x, int end) {
    if (k < from || k >= to) return;
    const float* centre = s.centres + i64(k) * features;
    for (; x < end; ++x) {
      const float* at = s.colours + i64(y) * p.pitch() + x;
      float colour = 0;
      for (int c = 0; c < channels; ++c) {
        const float t = at[c * p.plane()] - centre[2 + c];
        colour += t * t;
      }
      if (s.farthest[k] < colour) s.farthest[k] = colour;
    }
  });
}
