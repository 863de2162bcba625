// Every centre to the mean of its pixels, summed in float32 in raster order.

constexpr int EXACT = 1 << 24;  // integers up to this add without rounding

// Adds y, `count` times, to a tally's sum of rows: as integers while that is exact.
FN void add_rows(Tally& tally, int y, int count) {
  const i64 total = tally.y + i64(count) * y;
  if (total <= EXACT) {
    tally.y = int(total);
  } else {
    if (tally.y <= EXACT) tally.rounded_y = float(tally.y), tally.y = EXACT + 1;
    for (int i = 0; i < count; ++i) tally.rounded_y += float(y);
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

// Adds runs of pixels, each a record of its colours and its column. Runs are short, and where each
// ends is hard to foresee; so their records wait in a row for each centre, which is then summed at
// a stretch.
template <int C>
struct Adder {
  static constexpr int STRETCH = 256;  // columns of a row that are gathered at a time
  static constexpr int STEP = 8;       // pixels that are copied at a time

  const SlicProblem& p;
  const SlicState& s;
  const int most, pitch;
  int left = 0;
  alignas(64) float records[(STRETCH + STEP) * RECORD];

  FN Adder(const SlicProblem& p, const SlicState& s)
      : p(p), s(s), most(p.most_waiting()), pitch(p.waiting_pitch()) {}

  // What will be added lies in columns [from, end) of row y.
  FN void gather(int y, int from, int end) {
    const float* colours = s.colours + i64(y) * p.pitch() + from;
    const i64 plane = p.plane();
    left = from;
    for (int i = 0; i < end - from; ++i) {
      float* to = records + i * RECORD;
      for (int c = 0; c < RECORD; ++c)
        to[c] = c < C ? colours[c * plane + i] : c == C ? float(from + i) : 0;
    }
  }

  FN static void sum(Tally& tally, const float* from, int count) {
    Record total = load_record(tally.sum);
    for (int i = 0; i < count; ++i) total += load_record(from + i * RECORD);
    store_record(tally.sum, total);
    tally.members += count;
  }

  FN float* row(int k) const { return s.waiting + i64(k) * pitch * RECORD; }

  FN void flush(int k) const {
    Tally& tally = s.tallies[k];
    sum(tally, row(k), tally.waiting);
    tally.waiting = 0;
  }

  FN void add(int k, int x, int count) const {
    Tally& tally = s.tallies[k];
    const float* from = records + (x - left) * RECORD;
    if (tally.waiting + count > most) {
      flush(k);
      if (count > most) return sum(tally, from, count);
    }
    float* to = row(k) + tally.waiting * RECORD;
    int i = 0;
    do {
      for (int n = 0; n < STEP * RECORD; n += LANES)
        store(to + i * RECORD + n, load(from + i * RECORD + n));
      i += STEP;
    } while (i < count);
    tally.waiting += count;
  }

  FN void finish(int k) const {
    flush(k);
    float* centre = s.centre(p, k);
    const float* total = s.tallies[k].sum;
    centre[1] = total[C];
    for (int c = 0; c < C; ++c) centre[2 + c] = total[c];
  }
};

// Of any number of channels.
template <>
struct Adder<0> {
  static constexpr int STRETCH = 256;

  const SlicProblem& p;
  const SlicState& s;
  const float* colours = nullptr;

  FN Adder(const SlicProblem& p, const SlicState& s) : p(p), s(s) {}

  FN void gather(int y, int, int) { colours = s.colours + i64(y) * p.pitch(); }

  FN void add(int k, int x, int count) const {
    float* centre = s.centre(p, k);
    s.tallies[k].members += count;
    for (int end = x + count; x < end; ++x) {
      centre[1] += float(x);
      for (int c = 0; c < p.channels; ++c) centre[2 + c] += colours[c * p.plane() + x];
    }
  }

  FN void finish(int) const {}
};

// Centres [from, to), all of whose pixels lie in rows [top, bottom).
template <int C>
BODY void update(const SlicProblem& p, const SlicState& s, int from, int to, int top, int bottom) {
  constexpr int STRETCH = Adder<C>::STRETCH;
  const int channels = p.channels, features = p.features(), width = p.width;
  Adder<C> adder(p, s);
  for (int k = from; k < to; ++k) s.tallies[k] = {};
  for (i64 i = i64(from) * features; i < i64(to) * features; ++i) s.centres[i] = 0;
  int starts[STRETCH + 1 + LANES];
  for (int y = top; y < bottom; ++y) {
    const int* labels = s.row(p, y);
    for (int left = 0; left < width; left += STRETCH) {
      const int end = smaller(left + STRETCH, width);
      int count = 1;
      starts[0] = left;
      for (int x = left + 1; x < end; x += LANES)
        count += keep_set(starts + count, load(labels + x) != load(labels + x - 1), LANE + x);
      while (starts[count - 1] >= end) --count;
      starts[count] = end;
      adder.gather(y, left, end);
      for (int i = 0; i < count; ++i) {
        const int x = starts[i], run = starts[i + 1] - x, k = labels[x];
        if (k < from || k >= to) continue;
        adder.add(k, x, run);
        add_rows(s.tallies[k], y, run);
      }
    }
  }
  for (int k = from; k < to; ++k) {
    adder.finish(k);
    const Tally& tally = s.tallies[k];
    float* centre = s.centre(p, k);
    centre[0] = tally.y <= EXACT ? float(tally.y) : tally.rounded_y;
    for (int f = 0; f < features; ++f) centre[f] /= float(tally.members);  // NaN without pixels
  }
  if (!p.zero) return;
  each_run(p, s, top, bottom, [&](int k, int y, int x, int end) {
    if (k < from || k >= to) return;
    const float* centre = s.centre(p, k);
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
