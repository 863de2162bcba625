// What the kernels of SLIC work on: one image and one block's memory.

#ifdef __clang__
#pragma clang fp contract(off)
#endif

// Rows worked on together, in registers where there are 32 of them.
#ifdef __CUDACC__
constexpr int ROWS = 1;
#else
constexpr int ROWS = LANES == 16 ? 8 : 4;
#endif
// Images are padded to a multiple of these, so that no pack is cut, and by SPARE columns more: they
// keep rows a power of two apart out of one cache set, and border the rows for the connectivity.
constexpr int PAD_ROWS = 8, PAD_COLUMNS = 16, SPARE = 16;
constexpr int NONE = -1;  // label of a pixel that no centre has reached, masked ones too
constexpr float INFINITE = __builtin_inff();

FN int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }
FN int smaller(int a, int b) { return a < b ? a : b; }
FN int larger(int a, int b) { return a > b ? a : b; }

struct SlicProblem {
  int channels, height, width;
  int centres;
  int iterations;
  int zero;              // SLIC-zero: colours are weighed by the centre
  int seek;              // centres first settle by position alone
  int connect;           // make regions connected, then:
  int least, most;       // pixels of a region
  int reach_y, reach_x;  // of a centre: half its window
  float weight;          // of the squared distance in pixels

  FN int padded_height() const { return round_up(height, PAD_ROWS); }
  FN int padded_width() const { return round_up(width, PAD_COLUMNS); }
  FN int pitch() const { return padded_width() + SPARE; }
  FN i64 plane() const { return i64(padded_height()) * pitch(); }
  // Pixels that share a list of candidates, patches of PAD_ROWS × PAD_COLUMNS: fewer lists where
  // centres reach further.
  FN int tile_height() const { return PAD_ROWS * larger(1, smaller(8, reach_y / PAD_ROWS)); }
  FN int tile_width() const { return PAD_COLUMNS * larger(1, smaller(4, reach_x / PAD_COLUMNS)); }
  FN int tiles_down() const { return (height + tile_height() - 1) / tile_height(); }
  FN int tiles_across() const { return (width + tile_width() - 1) / tile_width(); }
  // Most tiles that a window of one axis meets.
  FN static int met(int reach, int tile, int tiles) {
    return smaller(tiles, (2 * reach + 2) / tile + 2);
  }
  FN i64 most_candidates() const {
    return i64(centres) * met(reach_y, tile_height(), tiles_down()) *
           met(reach_x, tile_width(), tiles_across());
  }
  FN int most_queued() const {
    return larger(1, i64(most) < i64(height) * width ? most : height * width);
  }
  // Pixels of a centre that wait to be added (slic_update.h): none where runs are long.
  FN int most_waiting() const {
    const i64 pixels = i64(height) * width / larger(1, centres);
    return pixels > 2048 ? 0 : smaller(128, round_up(int(pixels) + 1, PAD_COLUMNS));
  }
  FN int waiting_pitch() const { return most_waiting() + PAD_COLUMNS; }
  FN int features() const { return channels + 2; }  // of a centre: y, x, colours
};

// A pixel in the sums (slic_update.h): up to 3 colours, then its column.
constexpr int RECORD = 4;
typedef float Record __attribute__((vector_size(4 * RECORD), may_alias));

FN Record load_record(const float* p) { return *reinterpret_cast<const Record*>(p); }
FN void store_record(float* p, Record v) { *reinterpret_cast<Record*>(p) = v; }

// Of a centre's pixels so far.
struct Tally {
  alignas(16) float sum[RECORD];
  int members, waiting;  // how many are added, and how many records wait to be
  int y;                 // sum of the rows while it is exact in float32
  float rounded_y;       // beyond that
};

struct Window {
  int top, bottom, left, right;  // the latter of each axis excluded
};

struct SlicState {
  float* colours;   // (C, padded_height, pitch) ÷ compactness; NaN where masked
  float* ranges;    // (padded_height / PAD_ROWS, padded_width / PAD_COLUMNS, C, 2) of each patch's
                    // colours: the least, the most
  int* labels;      // (1 + padded_height + 1, pitch), from the second row on
  float* centres;   // (K, 2 + C) y, x, colours; NaN: without pixels
  float* farthest;  // (K) of SLIC-zero: largest squared colour distance so far
  Tally* tallies;   // (K)
  float* waiting;   // (K, waiting_pitch, RECORD) records that wait to be added
  Window* windows;  // (K)
  int* first;       // (tiles + 1) where each tile's candidates start
  int* candidates;  // centres whose window meets the tile, ascending
  i64* queue;       // (most_queued) pixels of a region

  FN float* range(const SlicProblem& p, int y, int x) const {
    const i64 patch = i64(y / PAD_ROWS) * (p.padded_width() / PAD_COLUMNS) + x / PAD_COLUMNS;
    return ranges + patch * p.channels * 2;
  }
  FN float* centre(const SlicProblem& p, int k) const { return centres + i64(k) * p.features(); }
  FN int* row(const SlicProblem& p, int y) const { return labels + i64(y) * p.pitch(); }

  // Lays the memory out from `base`, 128-byte aligned; returns its size in bytes.
  FN i64 carve(const SlicProblem& p, char* base) {
    i64 used = 0;
    auto take = [&](auto*& pointer, i64 count) {
      pointer = reinterpret_cast<decltype(pointer + 0)>(base + used);
      used += (count * i64(sizeof(*pointer)) + 127) / 128 * 128;
    };
    take(colours, larger(p.channels, 3) * p.plane());  // 3: slic_runs.h
    take(ranges,
         i64(p.padded_height() / PAD_ROWS) * (p.padded_width() / PAD_COLUMNS) * p.channels * 2);
    take(labels, p.plane() + 2 * p.pitch());
    labels += p.pitch();
    take(centres, i64(p.centres) * p.features());
    take(farthest, p.centres);
    take(tallies, p.centres);
    take(waiting, i64(p.centres) * p.waiting_pitch() * RECORD);
    take(windows, p.centres);
    take(first, i64(p.tiles_down()) * p.tiles_across() + 1);
    take(candidates, p.most_candidates());
    take(queue, p.most_queued());
    return used;
  }
};
