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

#include "iem_state.h"

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

  // In iem_stamp.h.
  FN void spread(const u64* bits, bool pairs) const;
  template <int N>
  FN void stamp_row(const u64* flips, const u64* mask, int y, int pack, int c) const;
  template <int N>
  FN void stamp_column(int y, int rows, int pack, int c, int* sums) const;
  BODY void stamp(const u64* flips, const u64* mask, int* sums);

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
  BODY void find_boundary() {
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

  // In iem_gradient.h.
  FN void measure_near(int y, int pack, Part& part, Partial* partial) const;
  FN void measure_far(int pack, int first, int last, Part& part, Partial* partial) const;
  FN void measure(int y0, int rows, Misses& sums, Partial* partial) const;
  template <int N>
  FN void filter_down(int y, int pack, int c, float* out, float* next_out) const;
  FN float filter_across(int y, int x, const float* gathered) const;
  FN Floats filter_pack(int y, int pack, const float* gathered) const;
  FN void gather(int y0, int rows) const;
  BODY void differentiate();

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

#include "iem_stamp.h"
//
#include "iem_gradient.h"
