// Every centre to the mean of its pixels, summed in float32 in raster order.

constexpr float EXACT = 1 << 24;  // integers up to this add without rounding

// Sum of `count` integers from `value` on in steps of `step`, added to `sum` one by one.
FN float add_integers(float sum, i64 value, int step, int count) {
  const i64 total = count * value + i64(step) * count * (count - 1) / 2;
  if (double(sum) + double(total) <= EXACT) return sum + float(total);
  for (int i = 0; i < count; ++i) sum += float(value + i64(step) * i);
  return sum;
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

// Centres [from, to), all of whose pixels lie in rows [top, bottom).
template <int C>
BODY void update(const SlicProblem& p, const SlicState& s, int from, int to, int top, int bottom) {
  const int channels = C ? C : p.channels, features = p.features();
  for (int k = from; k < to; ++k) s.members[k] = 0;
  for (i64 i = i64(from) * features; i < i64(to) * features; ++i) s.centres[i] = 0;
  for (int y = top; y < bottom; ++y) {
    const int* labels = s.row(p, y);
    const float* colours = s.colours + i64(y) * p.pitch();
    for (int x = 0, end = 0; x < p.width; x = end) {
      const int k = labels[x];
      if (k < from || k >= to) {
        for (end = x + 1; end < p.width && labels[end] == k;) ++end;
        continue;
      }
      float* centre = s.centres + i64(k) * features;
      float sum[C ? C : 1];
      // The pixel beyond the row's last has no label.
      if (C) {
        for (int c = 0; c < C; ++c) sum[c] = centre[2 + c];
        for (end = x; labels[end] == k; ++end)
          for (int c = 0; c < C; ++c) sum[c] += colours[c * p.plane() + end];
        for (int c = 0; c < C; ++c) centre[2 + c] = sum[c];
      } else {
        for (end = x; labels[end] == k; ++end)
          for (int c = 0; c < channels; ++c) centre[2 + c] += colours[c * p.plane() + end];
      }
      s.members[k] += end - x;
      centre[0] = add_integers(centre[0], y, 0, end - x);
      centre[1] = add_integers(centre[1], x, 1, end - x);
    }
  }
  for (int k = from; k < to; ++k)
    for (int f = 0; f < features; ++f)
      s.centres[i64(k) * features + f] /= float(s.members[k]);  // NaN without pixels
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
