// The regions of slic_connect.h by runs of one label in a row rather than pixel by pixel: runs that
// touch are united, and only regions of fewer than `least` pixels are flooded, for whom they join.

constexpr int STRIP = 16;  // rows that one task works on

// Run i of row y has the index y · pitch + i; of it the first column, the run it hangs on (the
// first run of its region in the end), and of a first run the pixels of its region, then its
// number. They lie where the colours did, which nobody needs any more.
struct Runs {
  const SlicProblem& p;
  int *labels, *first, *parent, *size;
  int pitch;

  FN Runs(const SlicProblem& p, const SlicState& s) : p(p), labels(s.labels), pitch(p.pitch()) {
    first = reinterpret_cast<int*>(s.colours);
    parent = first + p.plane(), size = parent + p.plane();
  }

  FN int& count(int y) const { return first[i64(y + 1) * pitch - 1]; }

  FN int root(int i) const {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  }

  FN void unite(int a, int b) const {
    a = root(a), b = root(b);
    parent[larger(a, b)] = smaller(a, b);
  }

  // Unites what touches of the runs of rows y − 1 and y.
  FN void join(int y) const {
    const i64 above = i64(y - 1) * pitch, here = i64(y) * pitch;
    const int runs_above = count(y - 1), runs = count(y);
    for (int i = 0, j = 0; i < runs_above && j < runs;) {
      const int x = larger(first[above + i], first[here + j]);
      const int label = labels[here + x];
      if (label >= 0 && label == labels[above + x]) unite(int(above + i), int(here + j));
      const int end_above = first[above + i + 1], end = first[here + j + 1];
      i += end_above <= end, j += end <= end_above;
    }
  }

  FN void prepare(int top) const {
    for (int y = top; y < smaller(top + STRIP, p.height); ++y) {
      find(y);
      if (y > top) join(y);
    }
  }

  FN void find(int y) const {
    const int* row = labels + i64(y) * pitch;
    int *to = first + i64(y) * pitch, runs = 1;
    to[0] = 0;
    for (int x = 1; x < p.width; x += LANES)
      runs += keep_set(to + runs, load(row + x) != load(row + x - 1), LANE + x);
    while (to[runs - 1] >= p.width) --runs;
    to[runs] = p.width, count(y) = runs;
    for (int i = 0; i < runs; ++i) parent[y * pitch + i] = row[to[i]] < 0 ? NONE : y * pitch + i;
  }

  // Each region's first run and its pixels; the most pixels of one.
  FN int weigh() const {
    int most = 0;
    for (int y = 0, height = p.height; y < height; ++y)
      for (int i = y * pitch, end = i + count(y); i < end; ++i) {
        const int up = parent[i];
        if (up < 0) continue;
        const int first_run = up == i ? i : parent[up], length = first[i + 1] - first[i];
        parent[i] = first_run;
        size[i] = 0;
        most = larger(most, size[first_run] += length);
      }
    return most;
  }

  // The first run of the region that pixel (y, x) lies in.
  FN int region(int y, int x) const {
    int run = y * pitch;
    for (int left = count(y), half; left > 1; left -= half) {
      half = left / 2;
      run += first[run + half] <= x ? half : 0;
    }
    return parent[run];
  }

  // The number of the region before `i` that a flood of region `i` meets last, other than
  // `regions`, which is this one's own if it meets none.
  FN int neighbour(int i, int regions, i64* queue) const {
    const int steps[] = {1, -1, pitch, -pitch}, members = size[i], y = i / pitch;
    const i64 start = i64(y) * pitch + first[i];
    const int label = labels[start];
    if (members == first[i + 1] - first[i] && labels[start + members - 1 - pitch] != NONE) {
      // It is no more than this run, whose last pixel meets one above.
      const int number = size[region(y - 1, first[i + 1] - 1)];
      if (number != regions) return number;
    }
    queue[0] = start, labels[start] = VISITED;
    for (int n = 0, found = 1; found < members; ++n)
      for (const int step : steps) {
        const i64 at = queue[n] + step;
        if (labels[at] == label) queue[found++] = at, labels[at] = VISITED;
      }
    for (int n = members - 1; n >= 0; --n)
      for (int k = 3; k >= 0; --k) {
        const int at = int(queue[n]) + steps[k];
        if (labels[at] == NONE) continue;
        const int other = region(at / pitch, at % pitch);
        if (other < i && size[other] != regions) return size[other];
      }
    return regions;
  }

  // Numbers the regions.
  FN void number(i64* queue) const {
    int regions = 0;
    for (int y = 0, height = p.height; y < height; ++y)
      for (int i = y * pitch, end = i + count(y); i < end; ++i) {
        if (parent[i] != i) continue;
        if (size[i] >= p.least) size[i] = regions++;
        else size[i] = neighbour(i, regions, queue);
      }
  }

  FN void write(int y, int start, int* out) const {
    for (int i = y * pitch, end = i + count(y); i < end; ++i) {
      const int number = start + (parent[i] < 0 ? NONE : size[parent[i]]);
      int x = first[i];
      // What a pack writes beyond its run, the next run writes over.
      for (; x < first[i + 1] && x + LANES <= p.width; x += LANES) store(out + x, Ints{} + number);
      for (; x < first[i + 1]; ++x) out[x] = number;
    }
  }
};

// Whether it could: not if some region is to be cut.
template <class Each>
FN bool connect_runs(const SlicProblem& p, const SlicState& s, Each each) {
  if (p.plane() >= 1ll << 31) return false;
  const Runs runs(p, s);
  each((p.height + STRIP - 1) / STRIP, [&](int i) { runs.prepare(i * STRIP); });
  for (int y = STRIP; y < p.height; y += STRIP) runs.join(y);
  if (runs.weigh() >= larger(1, p.most)) return false;
  runs.number(s.queue);
  return true;
}
