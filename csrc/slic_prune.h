// Which candidates of a patch can be nearest to some pixel of it.
//
// A patch's colours lie in a box, as its positions do, so each distance lies between two bounds.
// They are computed by the operations of the distance itself, in its order: each rounds
// monotonically, so bounds hold for the rounded distances too. Whose lower bound exceeds the upper
// bound of another, which reaches the whole patch, is nearest nowhere and ties nowhere.

enum Metric { COLOUR, ZERO, SPACE };  // SPACE: by position alone

constexpr int MOST = 256;  // longer lists are not pruned

// The candidates of a tile, in the order of its list, up to a whole pack.
template <int C>
struct Nominees {
  int count;
  alignas(64) float features[2 + C][MOST];  // y, x, colours
  alignas(64) float farthest[MOST];
  alignas(64) int top[MOST], bottom[MOST], left[MOST], right[MOST], centre[MOST];
};

FN Floats larger(Floats a, Floats b) { return a > b ? a : b; }

template <int C>
FN void nominate(const SlicProblem& p, const SlicState& s, const int* list, int count,
                 Nominees<C>& n) {
  n.count = count;
  for (int i = 0; i < count; ++i) {
    const int k = list[i];
    const float* centre = s.centres + i64(k) * p.features();
    for (int f = 0; f < 2 + C; ++f) n.features[f][i] = centre[f];
    n.farthest[i] = s.farthest[k];
    const Window& w = s.windows[k];
    n.top[i] = w.top, n.bottom[i] = w.bottom, n.left[i] = w.left, n.right[i] = w.right;
    n.centre[i] = k;
  }
  for (int i = count; i % LANES; ++i) n.top[i] = n.bottom[i] = 0;  // reach nothing
}

// Squares of v − least … v − most: the least and the most of them.
struct Squares {
  Floats least, most;

  FN Squares(Floats v, float low, float high) {
    const Floats a = v - high, b = v - low;
    const Floats near = larger(larger(a, -b), Floats{}), far = larger(-a, b);
    least = near * near, most = far * far;
  }
};

// The least and the most value of each channel in the patch at (y, x), masked pixels left out.
FN void bound_patch(const SlicProblem& p, const SlicState& s, int y, int x) {
  float* range = s.range(p, y, x);
  for (int c = 0; c < p.channels; ++c) {
    Floats low = Floats{} + INFINITE, high = -low;
    for (int r = 0; r < PAD_ROWS; ++r)
      for (int i = 0; i < PAD_COLUMNS; i += LANES) {
        const Floats v = load(s.colours + c * p.plane() + i64(y + r) * p.pitch() + x + i);
        low = v < low ? v : low, high = v > high ? v : high;
      }
    range[2 * c] = lane_min(low), range[2 * c + 1] = -lane_min(-high);
  }
}

// Those of the nominees that can be nearest in the patch at (y, x), in their order; their number.
template <int C, Metric M>
FN int choose(const SlicProblem& p, const SlicState& s, const Nominees<C>& n, int y, int x,
              int* chosen) {
  const float* range = s.range(p, y, x);
  const int bottom = smaller(y + PAD_ROWS, p.height), right = smaller(x + PAD_COLUMNS, p.width);
  alignas(64) float lower[MOST];
  Floats least_upper = Floats{} + INFINITE;
  for (int i = 0; i < n.count; i += LANES) {
    const Squares down(load(n.features[0] + i), float(y), float(bottom - 1));
    const Squares across(load(n.features[1] + i), float(x), float(right - 1));
    Floats low = (down.least + across.least) * p.weight;
    Floats high = (down.most + across.most) * p.weight;
    if (M != SPACE && C) {
      Floats near = {}, far = {};
      for (int c = 0; c < C; ++c) {
        const Squares colour(load(n.features[2 + c] + i), range[2 * c], range[2 * c + 1]);
        near = c ? near + colour.least : colour.least;
        far = c ? far + colour.most : colour.most;
      }
      if (M == ZERO) near /= load(n.farthest + i), far /= load(n.farthest + i);
      low += near, high += far;
    }
    const Ints top = load(n.top + i), end = load(n.bottom + i);
    const Ints from = load(n.left + i), beyond = load(n.right + i);
    const Ints reaches = (top < bottom) & (end > y) & (from < right) & (beyond > x);
    const Ints covers = (top <= y) & (end >= bottom) & (from <= x) & (beyond >= right);
    if (M == SPACE || C) {
      high = covers ? high : INFINITE;
      least_upper = high < least_upper ? high : least_upper;
    }
    store(lower + i, reaches ? low : INFINITE);
  }
  const float upper = lane_min(least_upper);
  int count = 0;
  for (int i = 0; i < n.count; i += LANES) {
    const Floats low = load(lower + i);
    const Ints kept = ~((low > upper) | (low == INFINITE));
    for (u32 bits = bits_of(kept); bits; bits &= bits - 1)
      chosen[count++] = n.centre[i + lowest_bit(bits)];
  }
  return count;
}
