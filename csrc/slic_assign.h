// Every pixel to its nearest centre, the first of equals, among those whose window it lies in.
//
// Rewritten tile by tile: a tile's candidates in ascending order, its pixels' best distance and
// label in registers, so that no array of distances is kept.

// The window of each centre, and the candidates of each tile.
BODY void list_candidates(const SlicProblem& p, const SlicState& s) {
  const int across = p.tiles_across(), tiles = p.tiles_down() * across;
  const int down = p.tile_height(), right = p.tile_width();
  for (int k = 0; k < p.centres; ++k) {
    const float y = s.centres[i64(k) * p.features()], x = s.centres[i64(k) * p.features() + 1];
    const float top = y - float(p.reach_y), bottom = y + float(p.reach_y) + 1;
    const float left = x - float(p.reach_x), end = x + float(p.reach_x) + 1;
    Window w = {top > 0 ? int(top) : 0, bottom < float(p.height) ? int(bottom) : p.height,
                left > 0 ? int(left) : 0, end < float(p.width) ? int(end) : p.width};
    if (!(y == y && x == x)) w = {0, 0, 0, 0};  // without pixels
    s.windows[k] = w;
  }
  for (int t = 0; t <= tiles; ++t) s.first[t] = 0;
  auto each_tile = [&](const Window& w, auto f) {
    if (w.top >= w.bottom || w.left >= w.right) return;
    const int x0 = w.left / right, x1 = (w.right - 1) / right;
    for (int y = w.top / down; y <= (w.bottom - 1) / down; ++y)
      for (int x = x0; x <= x1; ++x) f(y * across + x);
  };
  for (int k = 0; k < p.centres; ++k)
    each_tile(s.windows[k], [&](int tile) { ++s.first[tile + 1]; });
  for (int t = 0; t < tiles; ++t) s.first[t + 1] += s.first[t];
  // `first` moves on to each list's end as it fills, which is where the next one starts.
  for (int k = 0; k < p.centres; ++k)
    each_tile(s.windows[k], [&](int tile) { s.candidates[s.first[tile]++] = k; });
  for (int t = tiles; t > 0; --t) s.first[t] = s.first[t - 1];
  s.first[0] = 0;
}

// ROWS packs below one another; whether a pixel kept its label for want of a candidate. C channels,
// 0 for any number.
template <int C, Metric M>
FN int assign_pack(const SlicProblem& p, const SlicState& s, const int* list, int count, int y,
                   int x) {
  const int channels = C ? C : p.channels;
  const i64 plane = p.plane();
  const float* colours = s.colours + i64(y) * p.pitch() + x;
  const Floats columns = to_floats(LANE + x), rows = to_floats(LANE + y);
  Floats best[ROWS];
  Ints label[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    best[r] = Floats{} + INFINITE;
    label[r] = load(s.row(p, y + r) + x);
  }
  for (int i = 0; i < count; ++i) {
    const int k = list[i];
    const float* centre = s.centres + i64(k) * p.features();
    const Ints own = held(Ints{} + k);  // or each row would fetch it anew
    const Window w = s.windows[k];
    // Outside its window a centre is infinitely far.
    const Floats off_x = centre[1] - columns, off_y = centre[0] - rows;
    const Ints in_x = (LANE + x >= w.left) & (LANE + x < w.right);
    const Ints in_y = (LANE + y >= w.top) & (LANE + y < w.bottom);
    const Floats x2 = in_x ? off_x * off_x : INFINITE;
    const Floats y2 = in_y ? off_y * off_y : INFINITE;
    alignas(64) float of_row[LANES];
    store(of_row, y2);
    const float* row2 = anew(of_row);
    const float* pixels = anew(colours);
    const float farthest = M == ZERO ? s.farthest[k] : 1;
    for (int r = 0; r < ROWS; ++r) {
      const float* at = pixels + i64(r) * p.pitch();
      Floats distance = (row2[r] + x2) * p.weight;
      if (M == SPACE) {
        distance += 0 * load(at);  // NaN where masked
      } else {
        Floats colour = centre[2] - load(at);
        colour *= colour;
        for (int c = 1; c < channels; ++c) {
          const Floats t = centre[2 + c] - load(at + c * plane);
          colour += t * t;
        }
        if (M == ZERO) colour /= farthest;
        distance += colour;
      }
      const Ints nearer = distance < best[r];
      best[r] = nearer ? distance : best[r];
      label[r] = nearer ? own : label[r];
    }
  }
  Ints stale = {};
  for (int r = 0; r < ROWS; ++r) {
    store(s.row(p, y + r) + x, label[r]);
    stale |= (best[r] == INFINITE) & (label[r] >= 0);
  }
  return lane_sum(stale);
}

// All tiles of one row of them; whether some pixel kept its label for want of a candidate.
template <int C, Metric M>
BODY bool assign(const SlicProblem& p, const SlicState& s, int tile_row) {
  int stale = 0;
  Nominees<C> nominees;
  int chosen[MOST];
  const int top = tile_row * p.tile_height();
  const int bottom = smaller(top + p.tile_height(), p.padded_height());
  for (int tile = 0; tile < p.tiles_across(); ++tile) {
    const int* first = s.first + i64(tile_row) * p.tiles_across() + tile;
    const int left = tile * p.tile_width();
    const int right = smaller(left + p.tile_width(), p.padded_width());
    const int* list = s.candidates + *first;
    const int count = first[1] - *first;
    const bool prune = count <= MOST;
    if (prune) nominate(p, s, list, count, nominees);
    for (int y = top; y < bottom; y += PAD_ROWS)
      for (int x = left; x < right; x += PAD_COLUMNS) {
        for (int r = 0; r < PAD_ROWS; ++r) {  // too many streams for the hardware to foresee
          const i64 ahead = i64(y + r) * p.pitch() + x + PAD_COLUMNS;
          __builtin_prefetch(s.labels + ahead, 1);
          for (int c = 0; c < C; ++c) __builtin_prefetch(s.colours + ahead + c * p.plane());
        }
        const int kept = prune ? choose<C, M>(p, s, nominees, y, x, chosen) : count;
        for (int row = y; row < y + PAD_ROWS; row += ROWS)
          for (int column = x; column < x + PAD_COLUMNS; column += LANES)
            stale |= assign_pack<C, M>(p, s, prune ? chosen : list, kept, row, column);
      }
  }
  return stale != 0;
}
