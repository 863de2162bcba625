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

  // Columns that `width` frequencies take.
  template <class T>
  static int wide(int width) {
    return whole_packs<T>(width);
  }

  template <class T>
  static void join(const T* p, const i64* p_stride, const T* q, const i64* q_stride, int batch,
                   int classes, int others, int width, char* memory, T* out) {
    join_row(p, p_stride, q, q_stride, batch, classes, others, width, reinterpret_cast<T*>(memory),
             out);
  }

  template <class T>
  static void mix(const T* weights, const T* q, const i64* q_stride, int batch, int classes,
                  int others, int width, char* memory, T* out, const i64* out_stride) {
    mix_row(weights, q, q_stride, batch, classes, others, width, reinterpret_cast<T*>(memory), out,
            out_stride);
  }
};
