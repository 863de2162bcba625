// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "pack.h"
//
#include "product.h"
//
#include "attention.h"

// What attention.cpp sees of them.
struct Kernels {
  template <class T>
  using HeadOf = Head<T>;
  template <class T>
  using BackOf = Back<T>;

  template <class T>
  static i64 workspace(int length) {
    return attend_memory<T>(length);
  }
  template <class T>
  static i64 back_workspace() {
    return attend_back_memory<T>();
  }

  template <class T>
  static void forward(const Head<T>& head, int at, char* memory, T* out, T* norm) {
    attend(head, at, reinterpret_cast<T*>(memory), out, norm);
  }
  template <class T>
  static void backward(const Head<T>& head, const Back<T>& back, int at, char* memory) {
    attend_back(head, back, at, reinterpret_cast<T*>(memory));
  }
};
