// The family's kernels for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "pack.h"
//
#include "transpose.h"
//
#include "product.h"
//
#include "patch.h"
//
#include "winograd.h"
//
#include "masked_conv.h"

// What masked_conv.cpp sees of them.
struct Kernels {
  using Grid = Blocks;
  template <class T>
  using PixelsOf = Pixels<T>;
  template <class T>
  using WeightsOf = Weights<T>;
  template <class T>
  using ConvolutionOf = Convolution<T>;

  template <class T>
  static i64 filters_bytes(int channels, int outs) {
    return filters_size<T>(channels, outs);
  }
  template <class T>
  static i64 workspace(const Blocks& blocks, int channels) {
    return convolve_memory<T>(blocks, channels);
  }
  template <class T>
  static i64 back_workspace(const Blocks& blocks) {
    return products_memory<T>(blocks);
  }

  template <class T>
  static void filter(const Weights<const T>& weights, int group, T* filters) {
    const int first = group * OUTS;
    transform_weights(weights, first, outs_of<T>(weights.outs, first),
                      filters + i64(first) * FILTERS * weights.channels);
  }
  template <class T>
  static void forward(const Convolution<T>& conv, const Blocks& blocks, int index, char* memory) {
    convolve(conv, blocks, index, reinterpret_cast<T*>(memory));
  }
  template <class T>
  static i64 products_size(int channels, int outs) {
    return i64(FILTERS) * deep_of<T>(channels) * whole_packs<T>(outs);
  }
  template <class T>
  static void products(const Pixels<const T>& x, const Pixels<const T>& grad, const Blocks& blocks,
                       int index, bool fresh, char* memory, T* filters) {
    add_products(x, grad, blocks, index, fresh, reinterpret_cast<T*>(memory), filters);
  }
  template <class T>
  static void backward(const T* filters, int parts, i64 apart, const Weights<T>& weights) {
    weights_back(filters, parts, apart, weights);
  }
};
