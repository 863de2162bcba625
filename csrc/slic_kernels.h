// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "slic_state.h"
//
#include "slic_load.h"
//
#include "slic_prune.h"
//
#include "slic_assign.h"
//
#include "slic_update.h"
//
#include "slic_connect.h"
//
#include "slic.h"

// What slic.cpp sees of them.
struct Kernels {
  using Problem = SlicProblem;

  static i64 workspace(const Problem& problem) { return SlicState{}.carve(problem, nullptr); }

  static i64 most_candidates(const Problem& problem) { return problem.most_candidates(); }

  // One row of C planes in CIE Lab.
  template <class Pixel>
  static void lab_row(const Pixel* image, const i64* stride, float low, float range, int y,
                      int width, float* out, i64 plane) {
    Source<Pixel>(image, stride, low, range, 1, 1).row(3, y, width, width, out, plane);
  }

  // One image; each(n, f) calls f(i) for every i < n, and `tasks` is how many make it worth while.
  template <class Pixel, class Each>
  static void slic(const Problem& problem, const Pixel* image, const i64* stride, float low,
                   float range, int lab, float scale, const float* seeds, int start, int* labels,
                   char* memory, int tasks, Each each) {
    SlicState state;
    state.carve(problem, memory);
    const Source<Pixel> source(image, stride, low, range, lab, scale);
    auto run = [&](auto slic) {
      const int strip = 16, height = problem.padded_height();
      each((height + strip - 1) / strip, [&](int i) {
        for (int y = i * strip; y < smaller(height, (i + 1) * strip); ++y) slic.load(source, y);
        for (int y = i * strip; y < smaller(height, (i + 1) * strip); y += PAD_ROWS) slic.bound(y);
      });
      slic.start(seeds);
      slic.cluster(tasks, each);
      if (problem.connect) each(1, [&](int) { connect(problem, state); });
      each((height + strip - 1) / strip, [&](int i) {
        for (int y = i * strip; y < smaller(problem.height, (i + 1) * strip); ++y)
          write_row(problem, state, y, start, labels + i64(y) * problem.width);
      });
    };
    if (problem.channels == 1) return run(Slic<1>{problem, state});
    if (problem.channels == 3) return run(Slic<3>{problem, state});
    return run(Slic<0>{problem, state});
  }
};
