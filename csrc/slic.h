// SLIC superpixels of one image (fastseg/ops/slic/_reference.py), label for label.

// Centres whose pixels one task sums, and the rows those lie in.
struct Group {
  int from, to, top, bottom;
};

template <int C>
struct Slic {
  const SlicProblem& p;
  const SlicState& s;

  template <class Pixel>
  FN void load(const Source<Pixel>& source, int y) const {
    const int from = smaller(y, p.height - 1);  // rows of padding repeat the last
    source.row(p.channels, from, p.width, p.padded_width(), s.colours + i64(y) * p.pitch(),
               p.plane());
  }

  // Of a row of patches.
  FN void bound(int y) const {
    for (int x = 0; x < p.padded_width(); x += PAD_COLUMNS) bound_patch(p, s, y, x);
  }

  // Seeds (K,2) y, x; NaN where there is none.
  FN void start(const float* seeds) const {
    for (int k = 0; k < p.centres; ++k) {
      float* centre = s.centres + i64(k) * p.features();
      centre[0] = seeds[2 * k], centre[1] = seeds[2 * k + 1];
      for (int c = 0; c < p.channels; ++c) centre[2 + c] = 0;
    }
  }

  // Task i of `tasks` for the update: all of the centres if `whole`.
  FN Group group(int i, int tasks, bool whole) const {
    if (whole) return {0, p.centres, 0, p.height};
    Group g = {int(i64(p.centres) * i / tasks), int(i64(p.centres) * (i + 1) / tasks), p.height, 0};
    for (int k = g.from; k < g.to; ++k) {
      const Window& w = s.windows[k];
      if (w.top >= w.bottom) continue;
      g.top = smaller(g.top, w.top), g.bottom = larger(g.bottom, w.bottom);
    }
    return g;
  }

  // Centres in raster order fill groups of few rows: as many groups as do not overlap much.
  FN int groups(int most) const {
    for (int tasks = most;; tasks /= 2) {
      i64 rows = 0;
      for (int i = 0; i < tasks; ++i) {
        const Group g = group(i, tasks, false);
        rows += larger(0, g.bottom - g.top);
      }
      if (tasks <= 1 || rows <= 2 * i64(p.height)) return tasks;
    }
  }

  // `each(n, f)` calls f(i) for every i < n, at once if it can.
  template <Metric M, class Each>
  FN void iterate(int tasks, Each each) const {
    for (int k = 0; k < p.centres; ++k) s.farthest[k] = 1;
    for (i64 i = 0; i < p.plane() + 2 * p.pitch(); ++i) s.labels[i - p.pitch()] = NONE;
    for (int i = 0; i < p.iterations; ++i) {
      list_candidates(p, s);
      int kept = 0;
      each(p.tiles_down(), [&](int tile_row) {
        if (assign<C, M>(p, s, tile_row)) __atomic_store_n(&kept, 1, __ATOMIC_RELAXED);
      });
      // A pixel that kept its label may lie outside its centre's window.
      const int count = kept ? 1 : groups(tasks);
      each(count, [&](int i) {
        const Group g = group(i, count, kept || count == 1);
        update<C>(p, s, g.from, g.to, g.top, g.bottom);
      });
    }
  }

  template <class Each>
  FN void cluster(int tasks, Each each) const {
    if (p.seek) iterate<SPACE>(tasks, each);
    if (p.zero) iterate<ZERO>(tasks, each);
    else iterate<COLOUR>(tasks, each);
  }
};
