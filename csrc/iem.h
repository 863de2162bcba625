// Inpainting error maximisation: every update of one image's mask, by one block.
//
// K is linear, so with `known` = K*(x·M), K*M and `total` = K*x, K*1 the other layer's sums are
// total − known, and a flipped pixel changes `known` by one stamp of K. Rows of flips are stamped
// together: along x into one row, then down the 2r+1 rows it reaches. K is its own adjoint, so the
// gradient at pixel i needs K only at i, and only boundary pixels can change. With a layer's
// sums N, D, ψ = N/D, s = sign(x−ψ) and, per channel c of C,
//   w_c = s_c/(D |M|C) in the foreground, −s_c/(D |M̄|C) in the background,  t = Σ_c w_c ψ_c,
// it is
//   Σ_c x_c (K*w_c) − K*t + ε(Σ_c x_c ΣW_c − ΣT) + (e_f − E_f)/|M| − (e_b − E_b)/|M̄| − λ(d_f − d_b)
// where e is a pixel's error in either layer, E the layer's mean, d the squared deviation from the
// layer's mean colour. Pixels farther than r from every boundary pixel only enter the sums E, W
// and T, and there ψ is the other layer's mean: the far field costs one pass over x.
//
// `known` and `total` are integers in units of 2⁻²⁹. A stamp is rounded once, whatever is there
// already, and sums and differences of integers are exact; floats would drown a K*M̄ of 1e-4 in the
// rounding of sums near 1. |x| ≤ 2 and K's rows sum to at most 1, so all fit.

constexpr double MEAN_WEIGHT = 1e-8;  // ε
constexpr float UNIT = 1.0f / (1 << 29);

enum Smoothing { SMOOTH_NONE, SMOOTH_AUTHORS, SMOOTH_PAPER };
enum Status { EXHAUSTED, FIXED_POINT, CYCLE, EMPTIED };

struct Problem {
  int channels, height, width;
  int iterations, smoothing, boundary_only;
  int least;  // smallest K_ij·2²⁹, halved: less than that of a layer in reach is none of it
  double lamb;
  Rows<float> fy, fx;

  FN int packs() const { return (width + LANES - 1) / LANES; }  // a row
  FN i64 row_cells(int planes) const { return (i64(packs()) * planes + 1) * LANES; }
  FN int words() const { return (width + 63) / 64; }          // of pixel bits, a row
  FN int column_words() const { return (height + 63) / 64; }  // of pack bits, a column of packs
};

// What changes from update to update, one entry a channel.
struct Colour {
  double all, fore;            // Σ x, Σ x·M
  float fore_mean, back_mean;  // μ
  float fore_eps, back_eps;    // ε Σ x·M, ε Σ x·M̄
  float slope;                 // of the gradient, per unit of x
};

// Rows worked on together: few, so that a CPU's L1 holds what they share; more fill a CUDA block.
// Of these, a CPU keeps the sums of a strip in its registers.
#ifdef __CUDACC__
constexpr int GROUP = 16, STRIP = 1;
#else
constexpr int GROUP = 8, STRIP = 4;
#endif

// A layer: 1/(pixels·C) and ε·pixels.
struct Layer {
  float share, eps;
};

// One thread's sums over its packs: |x−ψ| of either layer, and t.
struct Misses {
  double fore, back, t;
};
struct Part {  // of a few rows
  Floats fore_miss, back_miss, t;
};
// And one entry a channel.
struct Partial {
  Floats part;               // of a few rows: Σ w_c near the boundary, or Σ x_c of flips
  double sum;                // of the rows before
  i64 fore_sign, back_sign;  // Σ s_c far from the boundary
};

// One block's memory. Planes are interleaved pack by pack: [y][pack][plane][LANES], with one slot
// of LANES to spare a row, lest rows a power of two apart share a cache set.
struct Workspace {
  int *known, *total;  // (C+1 planes) K*(x_c·M), K*M; K*x_c, K*1
  float* x;            // (C planes)
  float* pull;         // (1 plane) the gradient but for `slope` and `constant`
  float* ring;         // (C+1 planes) the latest `ring_rows` rows of a sweep
  float* gathered;     // (GROUP, C+1, gathered_stride) rows filtered down the columns, planar
  Partial* partial;    // (C, threads)
  Colour* colour;      // (C)
  u64 *mask, *before, *after, *flips, *candidates;  // (H, words) pixel bits
  u64 *at, *reach, *near, *far;                     // (packs, column_words) pack bits
  int ring_rows, gathered_pad, gathered_stride;

  // Lays the workspace out from `base`, 128-byte aligned; returns its size in bytes.
  FN i64 carve(const Problem& p, char* base, int threads) {
    i64 used = 0;
    auto take = [&](auto*& pointer, i64 count) {
      pointer = reinterpret_cast<decltype(pointer + 0)>(base + used);
      used += (count * i64(sizeof(*pointer)) + 127) / 128 * 128;
    };
    auto cells = [&](int planes) { return i64(p.height) * p.row_cells(planes); };
    const i64 words = i64(p.height) * p.words(), packs = i64(p.packs()) * p.column_words();
    const int planes = p.channels + 1;
    gathered_pad = (p.fx.radius + TABLE_PAD - 1) / TABLE_PAD * TABLE_PAD;
    gathered_stride = p.packs() * LANES + 2 * gathered_pad + TABLE_PAD;
    take(known, cells(planes));
    take(total, cells(planes));
    take(x, cells(p.channels));
    take(pull, cells(1));
    ring_rows = 1;
    while (ring_rows < GROUP + 2 * p.fy.radius) ring_rows *= 2;
    take(ring, ring_rows * p.row_cells(planes));
    take(gathered, i64(GROUP) * planes * gathered_stride);
    take(partial, i64(p.channels) * threads);
    take(colour, p.channels);
    take(mask, words), take(before, words), take(after, words);
    take(flips, words), take(candidates, words);
    take(at, packs), take(reach, packs), take(near, packs), take(far, packs);
    return used;
  }
};

// A row's word w, and the same pixels' left and right neighbours; zero outside the image.
struct Neighbours {
  u64 here, left, right;
};
FN Neighbours look(const u64* bits, int height, int words, int y, int w) {
  if (y < 0 || y >= height) return {0, 0, 0};
  const u64* row = bits + i64(y) * words;
  return {row[w], row[w] << 1 | (w > 0 ? row[w - 1] >> 63 : 0),
          row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0)};
}

// The bits of one pack; LANES divides 64, so a pack never straddles words.
FN u32 pack_bits(const u64* row, int pack) {
  const int first = pack * LANES;
  return u32(row[first >> 6] >> (first & 63)) & u32((1ull << LANES) - 1);
}

// 1 where at least 4 of the 3×3 pixels are 1. Bit-sliced: row sums of 0 … 3 as two bits each.
FN u64 smooth_authors(const Neighbours rows[3]) {
  u64 ones[3], twos[3];
  for (int i = 0; i < 3; ++i) {
    const Neighbours n = rows[i];
    ones[i] = n.left ^ n.here ^ n.right;
    twos[i] = (n.left & n.here) | (n.right & (n.left | n.here));
  }
  const u64 carry = (ones[0] & ones[1]) | (ones[2] & (ones[0] | ones[1]));
  return (twos[0] & twos[1]) | (twos[2] & carry) | ((twos[0] | twos[1]) & (twos[2] | carry));
}

// 1 where more than 4 of N, S, E, W, NW, SE are 1: at most one of them is 0.
FN u64 smooth_paper(const Neighbours rows[3]) {
  u64 one = 0, two = 0;
  for (u64 set :
       {rows[0].here, rows[2].here, rows[1].left, rows[1].right, rows[0].left, rows[2].right}) {
    two |= one & ~set;
    one |= ~set;
  }
  return ~two;
}

// C channels, or any number if C is 0.
template <int C>
struct Iem {
  const Block& b;
  const Problem& p;
  Shared<Workspace> s;
  double count;    // |M|
  double error;    // E_f + E_b
  float constant;  // of the gradient: what is the same at every pixel
  Layer fore, back;

  FN double area() const { return double(p.height) * p.width; }
  FN int channels() const { return C ? C : p.channels; }
  FN int planes() const { return channels() + 1; }
  FN int bit_words() const { return p.height * p.words(); }
  // Sums of a layer; nothing where the layer is out of reach, whatever rounding left there.
  FN Floats as_floats(Ints sums, Ints reached) const {
    return reached ? to_floats(sums) * UNIT : Floats{};
  }
  FN i64 cell(int y, int pack, int planes) const {
    return y * p.row_cells(planes) + i64(pack) * planes * LANES;
  }
  // A pixel's value in channel 0; the next channel's is LANES further.
  FN const float* pixel(int y, int x) const {
    return s.x + cell(y, u32(x) / LANES, channels()) + u32(x) % LANES;
  }
  FN float* ring_row(int y) const {
    return s.ring + (y & (s.ring_rows - 1)) * p.row_cells(planes());
  }
  // Down the image by groups of rows: produce(y, rows) fills rows of the ring, so far that
  // consume(y, rows) finds there whatever K reaches from its own.
  template <class Produce, class Consume>
  FN void sweep(Produce produce, Consume consume) const {
    for (int y = 0, ready = 0; y < p.height; y += GROUP) {
      const int rows = p.height - y < GROUP ? p.height - y : GROUP;
      const int until = y + rows + p.fy.radius < p.height ? y + rows + p.fy.radius : p.height;
      produce(ready, until - ready);
      ready = until;
      b.sync();
      consume(y, rows);
      b.sync();
    }
  }
  // f(y, pack) for each set bit of rows y0 … y0+rows−1.
  template <class F>
  FN void each_pack(const u64* bits, int y0, int rows, F f) const {
    b.each_run(bits, p.packs(), p.column_words(), y0, rows, [&](int pack, int first, int last) {
      for (int y = first; y <= last; ++y) f(y, pack);
    });
  }

  // f(y, pack) for each pair of rows that has one, y the first.
  template <class F>
  FN void each_pair(const u64* bits, int y0, int rows, F f) const {
    each_pack(bits, y0, rows, [&](int y, int pack) {
      if (y % 2 == 0) f(y, pack);
    });
  }

  // x = (v − v₀)·scale per channel: a constant added to a channel changes nothing, and v₀, the
  // first pixel's value, gives a flat picture a gradient of exactly zero.
  template <class Pixel>
  FN void load_image(const Pixel* in, const i64 stride[3], float scale) {
    b.each(p.height, p.packs(), [&](int y, int pack) {
      const int first = pack * LANES;
      for (int c = 0; c < channels(); ++c) {
        const Pixel* plane = in + c * stride[0];
        const Pixel* from = plane + y * stride[1] + first * stride[2];
        float* to = s.x + cell(y, pack, channels()) + c * LANES;
        const int count = p.width - first < LANES ? p.width - first : LANES;
        for (int l = 0; l < count; ++l)
          to[l] = (float(from[l * stride[2]]) - float(*plane)) * scale;
        for (int l = count; l < LANES; ++l) to[l] = 0;
      }
    });
  }

  template <class Bool>
  FN void load_mask(const Bool* in, const i64 stride[2], u64* bits) {
    b.each(p.height, p.words(), [&](int y, int w) {
      const int first = w * 64;
      u64 word = 0;
      for (int x = first; x < first + 64 && x < p.width; ++x)
        word |= u64(in[y * stride[0] + x * stride[1]] != 0) << (x - first);
      bits[i64(y) * p.words() + w] = word;
    });
  }

  // The packs that hold a set bit, that K reaches across from one, and across and down. With
  // `pairs`, a row of reach brings the other of its pair, 2i and 2i+1.
  FN void spread(const u64* bits, bool pairs) const {
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
  template <int N>
  FN void stamp_row(const u64* flips, const u64* mask, int y, int pack, int c) const {
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
  template <int N>
  FN void stamp_column(int y, int rows, int pack, int c, int* sums) const {
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
  FN void stamp(const u64* flips, const u64* mask, int* sums) {
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

  FN Partial* clear_partial() const {
    Partial* partial = s.partial + b.thread();
    for (int c = 0; c < channels(); ++c) partial[c * b.threads()] = Partial{};
    return partial;
  }
  FN void add_parts(Partial* partial) const {
    for (int c = 0; c < channels(); ++c) {
      Partial& of = partial[c * b.threads()];
      of.sum += lane_sum(of.part);
      of.part = Floats{};
    }
  }

  // What follows from |M| and Σ x·M.
  FN void follow_count() {
    fore = {float(1 / (count * channels())), float(MEAN_WEIGHT * count)};
    back = {float(1 / ((area() - count) * channels())), float(MEAN_WEIGHT * (area() - count))};
    b.each(channels(), [&](int c) {
      Colour& colour = s.colour[c];
      const double rest = colour.all - colour.fore;
      colour.fore_mean = float(colour.fore / count);
      colour.back_mean = float(rest / (area() - count));
      colour.fore_eps = float(MEAN_WEIGHT * colour.fore);
      colour.back_eps = float(MEAN_WEIGHT * rest);
    });
    b.sync();
  }

  // The pixels that may change.
  FN void find_boundary() {
    const int words = p.words();
    b.each(p.height, words, [&](int y, int w) {
      const u64* here = s.mask + i64(y) * words + w;
      const u64 inside = low_bits(p.width - w * 64);
      u64 same = 0;
      if (p.boundary_only && y > 0 && y + 1 < p.height) {
        const Neighbours row = look(s.mask, p.height, words, y, w);
        same = ~((*here ^ row.left) | (*here ^ row.right) | (*here ^ here[-words]) |
                 (*here ^ here[words]));
        if (w == 0) same &= ~1ull;
        if (w == words - 1) same &= inside >> 1;
      }
      s.candidates[i64(y) * words + w] = inside & ~same;
    });
    b.sync();
    spread(s.candidates, true);
    b.each(p.packs(), p.column_words(), [&](int pack, int i) {
      const int at = pack * p.column_words() + i;
      s.far[at] = ~s.near[at] & low_bits(p.height - i * 64);
    });
    b.sync();
  }

  // w_c and t of one pack into the ring, and their part in the sums.
  FN void measure_near(int y, int pack, Part& part, Partial* partial) const {
    const u32 bits = pack_bits(s.mask + i64(y) * p.words(), pack);
    const Ints in_fore = lanes_set(bits);
    const Ints inside = lanes_set(u32(low_bits(p.width - pack * LANES)));
    const int* known = s.known + cell(y, pack, planes());
    const int* total = s.total + cell(y, pack, planes());
    // The other layer's sums: what is known in the background, the rest in the foreground.
    auto other = [&](int c) {
      const Ints sum = load(known + c * LANES);
      return bits ? in_fore ? load(total + c * LANES) - sum : sum : sum;
    };
    const Floats zero{};
    auto by_layer = [&](float of_fore, float of_back) {
      return in_fore ? zero + of_fore : zero + of_back;
    };
    const Ints mass = other(channels());
    const Ints reached = mass > p.least;
    const Floats inverse = 1.0f / (as_floats(mass, reached) + by_layer(back.eps, fore.eps));
    const Floats share = inside ? inverse * by_layer(fore.share, -back.share) : zero;
    const float* x = s.x + cell(y, pack, channels());
    float* to = ring_row(y) + pack * planes() * LANES;
    Floats miss{}, t{};
    for (int c = 0; c < channels(); ++c) {
      const Colour& colour = s.colour[c];
      const Floats eps = by_layer(colour.back_eps, colour.fore_eps);
      const Floats psi = (as_floats(other(c), reached) + eps) * inverse;
      const Floats residual = load(x + c * LANES) - psi;
      const Floats w = residual > 0 ? share : residual < 0 ? -share : zero;
      miss += magnitude(residual);
      t += w * psi;
      store(to + c * LANES, w);
      partial[c * b.threads()].part += w;
    }
    store(to + channels() * LANES, t);
    part.t += t;
    part.fore_miss += in_fore & inside ? miss : zero;
    part.back_miss += ~in_fore & inside ? miss : zero;

    if (!(s.at[pack * p.column_words() + (y >> 6)] >> (y & 63) & 1)) return;
    // A candidate's error if it changed layers, too.
    const Ints own_mass = load(total + channels() * LANES) - mass;
    const Ints own_reached = own_mass > p.least;
    const Floats own_inverse =
        1.0f / (as_floats(own_mass, own_reached) + by_layer(fore.eps, back.eps));
    Floats own_miss{};
    for (int c = 0; c < channels(); ++c) {
      const Colour& colour = s.colour[c];
      const Ints own = load(total + c * LANES) - other(c);
      const Floats eps = by_layer(colour.fore_eps, colour.back_eps);
      const Floats psi = (as_floats(own, own_reached) + eps) * own_inverse;
      own_miss += magnitude(load(x + c * LANES) - psi);
    }
    store(s.pull + cell(y, pack, 1), in_fore ? miss * fore.share - own_miss * back.share
                                             : own_miss * fore.share - miss * back.share);
  }

  // Far packs are whole and, from first to last, of one layer: ψ is the other's mean.
  FN void measure_far(int pack, int first, int last, Part& part, Partial* partial) const {
    const bool in_fore = pack_bits(s.mask + i64(first) * p.words(), pack) & 1;
    for (int c = 0; c < channels(); ++c) {
      const float psi = in_fore ? s.colour[c].back_mean : s.colour[c].fore_mean;
      Floats miss{};
      Ints signs{};
      for (int y = first; y <= last; ++y) {
        const Floats residual = load(s.x + cell(y, pack, channels()) + c * LANES) - psi;
        miss += magnitude(residual);
        signs += sign(residual);
      }
      Partial& sums = partial[c * b.threads()];
      (in_fore ? part.fore_miss : part.back_miss) += miss;
      (in_fore ? sums.fore_sign : sums.back_sign) += lane_sum(signs);
    }
  }

  FN void measure(int y0, int rows, Misses& sums, Partial* partial) const {
    Part part{};
    each_pack(s.near, y0, rows, [&](int y, int pack) { measure_near(y, pack, part, partial); });
    b.each_run(s.far, p.packs(), p.column_words(), y0, rows, [&](int pack, int first, int last) {
      measure_far(pack, first, last, part, partial);
    });
    sums.fore += lane_sum(part.fore_miss);
    sums.back += lane_sum(part.back_miss);
    sums.t += lane_sum(part.t);
    add_parts(partial);
  }

  // N planes of the ring from c, filtered down the columns at one pack of rows y and y+1. Where a
  // row of `down` ends the table goes on with zeros.
  template <int N>
  FN void filter_down(int y, int pack, int c, float* out, float* next_out) const {
    const int next = y + 1 < p.height ? y + 1 : y;
    const int top = y < p.fy.radius ? 0 : y - p.fy.radius;
    const int bottom = next + p.fy.radius < p.height ? next + p.fy.radius : p.height - 1;
    const float* down = p.fy.row(y) + p.fy.radius - y;
    const float* next_down = p.fy.row(next) + p.fy.radius - next;
    Floats sum[N] = {}, next_sum[N] = {};
    for (int k = top; k <= bottom; ++k) {
      const float* row = ring_row(k) + (pack * planes() + c) * LANES;
      for (int n = 0; n < N; ++n) {
        const Floats value = held(load(row + n * LANES));
        sum[n] += down[k] * value;
        next_sum[n] += next_down[k] * value;
      }
    }
    for (int n = 0; n < N; ++n) {
      const int slot = (c + n) * s.gathered_stride + s.gathered_pad + pack * LANES;
      store(out + slot, sum[n]);
      store(next_out + slot, next_sum[n]);
    }
  }

  // Σ_c x_c (K*w_c) − K*t at one pixel.
  FN float filter_across(int y, int x, const float* gathered) const {
    const float* across = p.fx.row(x);
    const float* from = gathered + s.gathered_pad + x - p.fx.radius;
    const float* value = pixel(y, x);
    Floats sum{};
    for (int k = 0; k <= 2 * p.fx.radius; k += LANES) {
      Floats column = -load(from + channels() * s.gathered_stride + k);
      for (int c = 0; c < channels(); ++c)
        column += value[c * LANES] * load(from + c * s.gathered_stride + k);
      sum += load(across + k) * column;
    }
    return lane_sum(sum);
  }

  // The same at every pixel of a pack that is r pixels from either side.
  FN Floats filter_pack(int y, int pack, const float* gathered) const {
    const float* across = p.fx.row(p.fx.radius);
    const float* from = gathered + s.gathered_pad + pack * LANES - p.fx.radius;
    const float* x = s.x + cell(y, pack, channels());
    Floats sum{};
    for (int c = 0; c <= channels(); ++c) {
      const float* plane = from + c * s.gathered_stride;
      Floats even{}, odd{};
      int k = 0;
      for (; k < 2 * p.fx.radius; k += 2) {
        even += across[k] * load(plane + k);
        odd += across[k + 1] * load(plane + k + 1);
      }
      even += across[k] * load(plane + k) + odd;
      sum += c < channels() ? load(x + c * LANES) * even : -even;
    }
    return sum;
  }

  // The gradient of the candidates in rows, but for `slope` and `constant`, into `pull`.
  FN void gather(int y0, int rows) const {
    auto gathered = [&](int y) { return s.gathered + i64(y - y0) * planes() * s.gathered_stride; };
    each_pair(s.reach, y0, rows, [&](int y, int pack) {
      float *out = gathered(y), *next = gathered(y + 1);
      int c = 0;
      for (; c + 4 <= planes(); c += 4) filter_down<4>(y, pack, c, out, next);
      for (; c < planes(); ++c) filter_down<1>(y, pack, c, out, next);
    });
    b.sync();
    each_pack(s.at, y0, rows, [&](int y, int pack) {
      float* pull = s.pull + cell(y, pack, 1);
      u32 bits = pack_bits(s.candidates + i64(y) * p.words(), pack);
      const int first = pack * LANES, end = first + LANES;
      if (count_bits(bits) > 2 && first >= p.fx.radius && end + p.fx.radius <= p.width) {
        store(pull, load(pull) + filter_pack(y, pack, gathered(y)));
        return;
      }
      for (; bits; bits &= bits - 1) {
        const int l = lowest_bit(bits);
        pull[l] += filter_across(y, first + l, gathered(y));
      }
    });
  }

  // `pull`, `slope` and `constant` of every candidate's gradient, and the error.
  FN void differentiate() {
    Partial* partial = clear_partial();
    Misses sums{};
    sweep([&](int y, int rows) { measure(y, rows, sums, partial); },
          [&](int y, int rows) { gather(y, rows); });

    const double rest = area() - count;
    const double fore_error = b.sum(sums.fore) * fore.share;
    const double back_error = b.sum(sums.back) * back.share;
    error = fore_error + back_error;
    // Far from the boundary w = ±share/(ε·area of the other layer) and ψ its mean.
    const double fore_far = fore.share / back.eps, back_far = back.share / fore.eps;
    double t = b.sum(sums.t), deviation = 0;
    for (int c = 0; c < channels(); ++c) {
      Colour& colour = s.colour[c];
      const Partial& of = partial[c * b.threads()];
      const double in_fore = fore_far * b.sum(double(of.fore_sign));
      const double in_back = -back_far * b.sum(double(of.back_sign));
      const double weight = b.sum(of.sum) + in_fore + in_back;
      t += in_fore * colour.back_mean + in_back * colour.fore_mean;
      const double shift = double(colour.back_mean) - colour.fore_mean;
      deviation += shift * (double(colour.back_mean) + colour.fore_mean);
      if (b.thread() == 0) colour.slope = float(MEAN_WEIGHT * weight - 2 * p.lamb * shift);
    }
    constant =
        float(-MEAN_WEIGHT * t - fore_error / count + back_error / rest + p.lamb * deviation);
    b.sync();
  }

  // after = mask, its candidates set by the sign of their gradient.
  FN void climb() const {
    b.each(bit_words(), [&](int i) { s.after[i] = s.mask[i]; });
    b.sync();
    each_pack(s.at, 0, p.height, [&](int y, int pack) {
      Floats gradient = load(s.pull + cell(y, pack, 1)) + constant;
      const float* x = s.x + cell(y, pack, channels());
      for (int c = 0; c < channels(); ++c) gradient += s.colour[c].slope * load(x + c * LANES);
      const u32 candidates = pack_bits(s.candidates + i64(y) * p.words(), pack);
      const u64 up = candidates & bits_of(gradient > 0), down = candidates & bits_of(gradient < 0);
      const int first = pack * LANES;
      change_bits(s.after + i64(y) * p.words() + (first >> 6), up << (first & 63),
                  down << (first & 63));
    });
    b.sync();
  }

  // flips = smoothed `after` XOR mask; `after` becomes the next mask.
  FN void smooth() {
    const int words = p.words();
    b.each(p.height, words, [&](int y, int w) {
      const i64 i = i64(y) * words + w;
      u64 next = s.after[i];
      if (p.smoothing != SMOOTH_NONE) {
        Neighbours rows[3];
        for (int k = 0; k < 3; ++k) rows[k] = look(s.after, p.height, words, y + k - 1, w);
        next = p.smoothing == SMOOTH_AUTHORS ? smooth_authors(rows) : smooth_paper(rows);
        next &= low_bits(p.width - w * 64);
      }
      s.flips[i] = next ^ s.mask[i];
    });
    b.sync();
    b.each(bit_words(), [&](int i) { s.after[i] = s.mask[i] ^ s.flips[i]; });
    b.sync();
  }

  // `mask` holds the initial mask and x the image; leaves the result in `mask`.
  BODY void run(int* steps, int* status) {
    const i64 cells = p.height * p.row_cells(planes());
    b.each(int(cells / LANES), [&](int i) {
      store(s.known + i64(i) * LANES, Ints{});
      store(s.total + i64(i) * LANES, Ints{});
    });
    b.each(GROUP * planes() * s.gathered_stride, [&](int i) { s.gathered[i] = 0; });
    b.each(bit_words(),
           [&](int i) { s.before[i] = 0, s.after[i] = low_bits(p.width - i % p.words() * 64); });
    b.sync();
    b.each(channels(), [&](int c) { s.colour[c] = Colour{}; });
    b.sync();
    stamp(s.after, s.before, s.total);
    b.each(channels(), [&](int c) { s.colour[c].all = s.colour[c].fore, s.colour[c].fore = 0; });
    b.sync();
    count = 0;
    stamp(s.mask, s.before, s.known);
    *steps = 0, *status = EXHAUSTED, error = 0;
    if (count == 0 || count == area()) {
      *status = EMPTIED;
      return;
    }

    while (*steps < p.iterations) {
      find_boundary();
      differentiate();
      climb();
      smooth();
      ++*steps;
      double moved = 0, back = 0, left = 0;
      b.each(bit_words(), [&](int i) {
        moved += s.flips[i] != 0;
        back += s.after[i] != s.before[i];
        left += count_bits(s.after[i]);
      });
      left = b.sum(left);
      if (left == 0 || left == area()) *status = EMPTIED;
      else if (b.sum(moved) == 0) *status = FIXED_POINT;
      else if (*steps > 1 && b.sum(back) == 0) *status = CYCLE;
      // Of a 2-cycle the mask after the last iteration is known.
      if (*status == EMPTIED || *status == FIXED_POINT) break;
      if (*status == CYCLE && (p.iterations - *steps) % 2) break;
      stamp(s.flips, s.mask, s.known);
      if (b.thread() == 0) {
        u64* oldest = s.before;
        s.before = s.mask, s.mask = s.after, s.after = oldest;
      }
      b.sync();
      if (*status == CYCLE) break;
    }
    find_boundary();
    differentiate();
  }
};
