// Connected regions from labels: each is flooded breadth first from its first pixel in raster
// order, up to `most` pixels, and joins a neighbour if it has fewer than `least`.

// A pixel that has its region holds VISITED − region; until then its label.
constexpr int VISITED = -2;

BODY void connect(const SlicProblem& p, const SlicState& s) {
  const int pitch = p.pitch(), most = larger(1, p.most);
  const i64 steps[] = {1, -1, pitch, -pitch};  // this order decides ties
  int region = 0;
  for (int y = 0; y < p.height; ++y) {
    int* row = s.row(p, y);
    for (int x = 0; x < p.width; ++x) {
      const int label = row[x];
      if (label < 0) continue;
      const int mark = VISITED - region;
      int joined = mark, size = 1;
      row[x] = mark;
      s.queue[0] = row + x - s.labels;
      for (int i = 0; i < size && size < most; ++i) {
        int* at = s.labels + s.queue[i];
        for (const i64 step : steps) {
          const int other = at[step];
          if (other == label) {
            at[step] = mark;
            s.queue[size++] = at + step - s.labels;
            if (size >= most) break;
          } else if (other <= VISITED && other != mark) {
            joined = other;
          }
        }
      }
      if (size >= p.least) {
        ++region;
      } else if (joined != mark) {
        for (int i = 0; i < size; ++i) s.labels[s.queue[i]] = joined;
      }
    }
  }
}

// Row y of the result: labels from `start` on.
FN void write_row(const SlicProblem& p, const SlicState& s, int y, int start, int* out) {
  const int* row = s.row(p, y);
  if (p.connect)
    for (int x = 0; x < p.width; ++x)
      out[x] = start + (row[x] <= VISITED ? VISITED - row[x] : row[x]);
  else
    for (int x = 0; x < p.width; ++x) out[x] = start + row[x];
}
