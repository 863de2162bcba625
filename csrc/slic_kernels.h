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
#include "slic_runs.h"
//
#include "slic.h"

// What slic.cpp sees of them.
struct Kernels {
  using Problem = SlicProblem;

  static i64 workspace(const Problem& problem) { return SlicState{}.carve(problem, nullptr); }

  static i64 most_candidates(const Problem& problem) { return problem.most_candidates(); }

  template <class Pixel>
  static void extremes(const Pixel* values, i64 count, float& least, float& most) {
    find_extremes(values, count, least, most);
  }

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
      auto each_strip = [&](int height, auto f) {
        each((height + STRIP - 1) / STRIP, [&](int i) {
          for (int y = i * STRIP; y < smaller(height, (i + 1) * STRIP); ++y) f(y);
        });
      };
      each_strip(problem.padded_height(), [&](int y) {
        slic.load(source, y);
        if ((y + 1) % PAD_ROWS == 0) slic.bound(y + 1 - PAD_ROWS);
      });
      slic.start(seeds);
      slic.cluster(tasks, each);
      const bool by_runs = problem.connect && connect_runs(problem, state, each);
      if (problem.connect && !by_runs) each(1, [&](int) { connect(problem, state); });
      each_strip(problem.height, [&](int y) {
        int* to = labels + i64(y) * problem.width;
        if (by_runs) Runs(problem, state).write(y, start, to);
        else write_row(problem, state, y, start, to);
      });
    };
    if (problem.channels == 1) return run(Slic<1>{problem, state});
    if (problem.channels == 3) return run(Slic<3>{problem, state});
    return run(Slic<0>{problem, state});
  }
};
