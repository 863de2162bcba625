// Iem<C>: flipped pixels into the sums of a layer.

// The packs that hold a set bit, that K reaches across from one, and across and down. With
// `pairs`, a row of reach brings the other of its pair, 2i and 2i+1.
template <int C>
FN void Iem<C>::spread(const u64* bits, bool pairs) const {
  const int height = p.column_words(), radius = p.fx.radius;
  b.each(p.packs() * height, [&](int i) { s.at[i] = s.reach[i] = 0; });
  b.sync();
  b.each(p.height, p.words(), [&](int y, int w) {
    const u64* row = bits + i64(y) * p.words();
    if (!row[w]) return;
    const u64 bit = 1ull << (y & 63);
    for (int pack = w * (64 / LANES); pack < (w + 1) * (64 / LANES) && pack < p.packs(); ++pack) {
      const u32 set = pack_bits(row, pack);
      if (!set) continue;
      change_bits(s.at + pack * height + (y >> 6), bit, 0);
      const int first = pack * LANES + lowest_bit(set) - radius;
      const int last = pack * LANES + highest_bit(set) + radius;
      const int end = (last < p.width ? last : p.width - 1) / LANES;
      for (int i = (first > 0 ? first : 0) / LANES; i <= end; ++i)
        change_bits(s.reach + i * height + (y >> 6), bit, 0);
    }
  });
  b.sync();
  if (pairs) {
    const u64 even = 0x5555555555555555;
    b.each(p.packs(), height, [&](int pack, int i) {
      const u64 reach = s.reach[pack * height + i];
      const u64 both = reach | (reach & even) << 1 | (reach >> 1 & even);
      s.reach[pack * height + i] = both & low_bits(p.height - i * 64);
    });
    b.sync();
  }
  b.each(p.packs(), height, [&](int pack, int i) {
    u64 near = 0;
    for (int k = -p.fy.radius; k <= p.fy.radius; ++k)
      near |= bits_from(s.reach + i64(pack) * height, height, i * 64 + k);
    s.near[pack * height + i] = near & low_bits(p.height - i * 64);
  });
  b.sync();
}

// x_c·flips and flips of one row, filtered across into one pack of N planes from c.
template <int C>
template <int N>
FN void Iem<C>::stamp_row(const u64* flips, const u64* mask, int y, int pack, int c) const {
  const int radius = p.fx.radius;
  const int from = pack * LANES - radius, to = pack * LANES + LANES + radius;
  Floats sum[N] = {};
  for (int w = from < 0 ? 0 : from >> 6; w < p.words() && w * 64 < to; ++w) {
    u64 bits = flips[w];
    if (from > w * 64) bits &= ~0ull << (from - w * 64);
    if (to < w * 64 + 64) bits &= (1ull << (to - w * 64)) - 1;
    for (; bits; bits &= bits - 1) {
      const int x = w * 64 + lowest_bit(bits);
      const float sign = mask[w] & bits & -bits ? -1 / UNIT : 1 / UNIT;
      const Floats share = sign * load(p.fx.row(x) + (pack * LANES + radius - x));
      const float* value = pixel(y, x);
      for (int n = 0; n < N; ++n)
        sum[n] += (c + n < channels() ? value[(c + n) * LANES] : 1.0f) * share;
    }
  }
  for (int n = 0; n < N; ++n) store(ring_row(y) + (pack * planes() + c + n) * LANES, sum[n]);
}

// The stamped rows filtered down into one pack of up to STRIP rows from y, N planes from c, and
// added to the sums. Where a row of `down` ends the table goes on with zeros.
template <int C>
template <int N>
FN void Iem<C>::stamp_column(int y, int rows, int pack, int c, int* sums) const {
  const int last = y + rows - 1, height = p.column_words();
  const int top = y < p.fy.radius ? 0 : y - p.fy.radius;
  const int bottom = last + p.fy.radius < p.height ? last + p.fy.radius : p.height - 1;
  const float* down[STRIP];
  for (int i = 0; i < STRIP; ++i) {
    const int row = i < rows ? y + i : last;
    down[i] = p.fy.row(row) + p.fy.radius - row;
  }
  Floats sum[STRIP][N] = {};
  for (int from = top; from <= bottom; from += 64) {
    u64 bits = bits_from(s.reach + i64(pack) * height, height, from);
    for (bits &= low_bits(bottom + 1 - from); bits; bits &= bits - 1) {
      const int k = from + lowest_bit(bits);
      const float* row = ring_row(k) + (pack * planes() + c) * LANES;
      for (int n = 0; n < N; ++n) {
        const Floats value = held(load(row + n * LANES));
        for (int i = 0; i < STRIP; ++i) sum[i][n] += down[i][k] * value;
      }
    }
  }
  int* to = sums + cell(y, pack, planes()) + c * LANES;
  for (int i = 0; i < STRIP; ++i, to += p.row_cells(planes())) {
    if (i >= rows) break;
    for (int n = 0; n < N; ++n) store(to + n * LANES, load(to + n * LANES) + to_ints(sum[i][n]));
  }
}

// sums += K*(x·flips), K*flips, where a pixel that leaves `mask` counts −1; `count` and Σ x·M
// likewise.
template <int C>
BODY void Iem<C>::stamp(const u64* flips, const u64* mask, int* sums) {
  Partial* partial = clear_partial();
  spread(flips, false);
  sweep(
      [&](int y0, int rows) {
        each_pack(s.reach, y0, rows, [&](int y, int pack) {
          const u64 *row = flips + i64(y) * p.words(), *old = mask + i64(y) * p.words();
          int c = 0;
          for (; c + 4 <= planes(); c += 4) stamp_row<4>(row, old, y, pack, c);
          for (; c < planes(); ++c) stamp_row<1>(row, old, y, pack, c);
        });
        each_pack(s.at, y0, rows, [&](int y, int pack) {
          const u32 moved = pack_bits(flips + i64(y) * p.words(), pack);
          const u32 old = pack_bits(mask + i64(y) * p.words(), pack);
          const Ints enters = lanes_set(moved & ~old), leaves = lanes_set(moved & old);
          const float* x = s.x + cell(y, pack, channels());
          for (int c = 0; c < channels(); ++c) {
            const Floats value = load(x + c * LANES), zero{};
            partial[c * b.threads()].part += enters ? value : leaves ? -value : zero;
          }
        });
        add_parts(partial);
      },
      [&](int y0, int rows) {
        b.each_run(s.near, p.packs(), p.column_words(), y0, rows, [&](int pack, int y, int last) {
          for (; y <= last; y += STRIP) {
            const int rows = last + 1 - y < STRIP ? last + 1 - y : STRIP;
            int c = 0;
            for (; c + 4 <= planes(); c += 4) stamp_column<4>(y, rows, pack, c, sums);
            for (; c < planes(); ++c) stamp_column<1>(y, rows, pack, c, sums);
          }
        });
      });
  double change = 0;
  b.each(bit_words(), [&](int i) {
    change += count_bits(flips[i] & ~mask[i]) - count_bits(flips[i] & mask[i]);
  });
  count += b.sum(change);
  for (int c = 0; c < channels(); ++c) {
    const double sum = b.sum(partial[c * b.threads()].sum);
    if (b.thread() == 0) s.colour[c].fore += sum;
  }
  b.sync();
  follow_count();
}
