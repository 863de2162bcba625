// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "confusion.h"

// What confusion.cpp sees of them.
struct Kernels {
  static constexpr int MOST = STRETCH;

  template <class T>
  static void load(const void* labels, i64 from, int n, i64 ignored, int count, int* out) {
    load_labels(static_cast<const T*>(labels) + from, n, ignored, count, out);
  }

  static void count(int* p, const int* t, int n, int clusters, int classes, bool split,
                    u32* counts) {
    (split ? count_pairs<4> : count_pairs<1>)(p, t, n, clusters, classes, counts);
  }
};
