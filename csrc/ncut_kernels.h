// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "pack.h"
//
#include "ncut.h"

// What ncut.cpp sees of them.
struct Kernels {
  template <class T>
  using DiscOf = Disc<T>;
  template <class T>
  using OffsetOf = Offset<T>;

  template <class T>
  static i64 workspace(const Disc<T>& disc) {
    Tile<T> tile;
    return tile.carve(disc, nullptr);
  }

  template <class T>
  static void tile(const Disc<T>& disc, const T* p, const T* colours, int index, char* memory,
                   T* filtered, T* degree, double* totals) {
    ncut_tile(disc, p, colours, index, memory, filtered, degree, totals);
  }
};
