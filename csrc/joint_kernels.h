// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "pack.h"
//
#include "joint.h"
//
#include "spectra.h"

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

  using Line = Axis;
  template <class T>
  using Cut = Tiling<T>;
  static constexpr int FREQUENCIES = BLOCK;

  template <class T>
  static i64 plane_workspace(const Tiling<T>& tiling) {
    return plane_memory(tiling);
  }

  template <class T>
  static void spectra(const Tiling<T>& tiling, const T* plane, int around, T* out, i64 pitch,
                      char* memory) {
    plane_spectra(tiling, plane, around, out, pitch, reinterpret_cast<T*>(memory));
  }

  template <class T>
  static void pixels(const Tiling<T>& tiling, const T* from, i64 pitch, T* plane, char* memory) {
    plane_pixels(tiling, from, pitch, plane, reinterpret_cast<T*>(memory));
  }

  template <class T>
  static void join(const T* p, const T* q, int classes, int others, int tiles, bool add, T* out) {
    join_block(p, q, classes, others, tiles, add, out);
  }

  template <class T>
  static void mix(const T* weights, const T* q, int classes, int others, int tiles, T* out) {
    mix_block(weights, q, classes, others, tiles, out);
  }
};
