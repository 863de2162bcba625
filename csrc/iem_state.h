// What one block of csrc/iem.h works on.

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
