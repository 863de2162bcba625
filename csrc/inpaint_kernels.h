// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "bits.h"
//
#include "filter.h"
//
#include "iem.h"

// What inpaint.cpp sees of them.
struct Kernels {
  using IemProblem = Problem;
  template <class T>
  using FilterRows = Rows<T>;

  template <class T>
  static void filter(const T* in, T* out, T* across, const Rows<T>& fy, const Rows<T>& fx) {
    filter_plane(in, out, across, fy, fx);
  }

  static i64 iem_workspace(const Problem& problem) {
    Workspace s;
    return s.carve(problem, nullptr, 1);
  }

  // One image from one initial mask; `bits` gets the (H, ⌈W/64⌉) result.
  template <class Pixel>
  static void iem(const Problem& problem, const Pixel* image, const i64* image_stride, float scale,
                  const unsigned char* init, const i64* init_stride, char* memory, u64* bits,
                  double* error, int* steps, int* status) {
    const Block block;
    Workspace s;
    s.carve(problem, memory, 1);
    auto run = [&](auto iem) {
      iem.load_image(image, image_stride, scale);
      iem.load_mask(init, init_stride, iem.s.mask);
      iem.run(steps, status);
      for (int i = 0; i < iem.bit_words(); ++i) bits[i] = iem.s.mask[i];
      *error = iem.error;
    };
    if (problem.channels == 1) return run(Iem<1>{block, problem, s, 0, 0, 0, {}, {}});
    if (problem.channels == 3) return run(Iem<3>{block, problem, s, 0, 0, 0, {}, {}});
    return run(Iem<0>{block, problem, s, 0, 0, 0, {}, {}});
  }
};
