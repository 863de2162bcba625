// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "pack.h"
//
#include "joint.h"

// What joint.cpp sees of them.
struct Kernels {
  using Problem = Fields;

  template <class T>
  static i64 box_workspace(int height, int width, int radius) {
    return box_memory<T>(height, width, radius);
  }

  template <class T>
  static void box(const T* in, T* out, int height, int width, int radius, char* memory) {
    box_plane(in, out, height, width, radius, reinterpret_cast<T*>(memory));
  }

  template <class T>
  static i64 products_workspace(const Fields& fields) {
    return product_memory<T>(fields);
  }

  template <class T>
  static void products(const Fields& fields, const T* p, const T* q, int dy, int part, int parts,
                       char* memory, double* sums) {
    displaced_products(fields, p, q, dy, part, parts, reinterpret_cast<T*>(memory), sums);
  }

  template <class T>
  using Parts = Spectra<T>;

  template <class T>
  static void part(const T* from, int n, int width, int wide, T* to, i64 pitch) {
    part_spectrum(from, n, width, wide, to, pitch);
  }

  template <class T>
  static void join(const Spectra<T>& p, const Spectra<T>& q, int batch, int classes, int others,
                   int wide, T* out) {
    join_row(p, q, batch, classes, others, wide, out);
  }

  template <class T>
  static void mix(const T* weights, const Spectra<T>& q, int batch, int classes, int others,
                  int wide, int width, T* out, i64 image, i64 plane) {
    mix_row(weights, q, batch, classes, others, wide, width, out, image, plane);
  }
};
