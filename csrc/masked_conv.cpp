// Bindings of csrc/masked_conv.h.

#define FASTSEG_KERNELS "masked_conv_kernels.h"
#include "each_isa.h"

namespace {

constexpr int OUTS = 96, DEEP = 64;  // of csrc/masked_conv.h
// The gradients of the weights are summed apart over shares of the batch, whatever the number of
// threads: as many tasks as this, if a share has that many blocks.
constexpr int TASKS = 8, LEAST_BLOCKS = 4;

// Pictures (B, C, H, W), one of them as `Pixels`.
template <class Pixels, class A>
Pixels picture(const A& array, std::int64_t i) {
  return {array.data() + i * array.stride[0],
          array.stride[1],
          array.stride[2],
          array.stride[3],
          int(array.size(1)),
          int(array.size(2)),
          int(array.size(3))};
}

template <class Weights, class A>
Weights weights_of(const A& array) {
  return {array.data(),    array.stride[0],    array.stride[1],   array.stride[2],
          array.stride[3], int(array.size(0)), int(array.size(1))};
}

template <class X, class W>
void check(const X& x, const X& out, const char* name, const W& weight) {
  need(x.info.size > 0, "`x` must not be empty");
  need(weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3,
       "`weight` must have shape (O, C, 3, 3)");
  need(out.size(0) == x.size(0) && out.size(1) == weight.size(0) && out.size(2) == x.size(2) &&
           out.size(3) == x.size(3),
       std::string("`") + name + "` must have shape (B, O, H, W)");
}

template <class T>
void masked_conv_as(const py::buffer& x_buffer, const py::buffer& weight_buffer,
                    const std::optional<py::buffer>& bias_buffer,
                    const std::optional<py::buffer>& residual_buffer, const py::buffer& out_buffer,
                    bool relu, int threads) {
  const auto x = array<T>("x", x_buffer, 4, READ_STRIDED);
  const auto weight = array<T>("weight", weight_buffer, 4, READ_STRIDED);
  const auto out = array<T>("out", out_buffer, 4, WRITE_STRIDED);
  check(x, out, "out", weight);
  std::optional<Array<T>> bias, residual;
  if (bias_buffer) bias = array<T>("bias", *bias_buffer, 1);
  if (residual_buffer) residual = array<T>("residual", *residual_buffer, 4, READ_STRIDED);
  need(!bias || bias->size(0) == out.size(1), "`bias` must have shape (O,)");
  need(!residual || residual->info.shape == out.info.shape, "`residual` must have shape of `out`");
  const int channels = int(x.size(1)), outs = int(out.size(1));
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    using Read = typename K::template PixelsOf<const T>;
    const Memory filters = allocate(K::template filters_bytes<T>(channels, outs));
    T* const filtered = reinterpret_cast<T*>(filters.get());
    const auto taps = weights_of<typename K::template WeightsOf<const T>>(weight);
    share((outs + OUTS - 1) / OUTS, threads, 1,
          [&](std::int64_t group, char*) { K::filter(taps, int(group), filtered); });
    const typename K::Grid blocks(int(x.size(2)), int(x.size(3)));
    share(x.size(0) * blocks.count(), threads, K::template workspace<T>(blocks, channels),
          [&](std::int64_t task, char* memory) {
            const std::int64_t i = task / blocks.count();
            const typename K::template ConvolutionOf<T> conv{
                picture<Read>(x, i),
                residual ? picture<Read>(*residual, i) : Read{},
                filtered,
                bias ? bias->data() : nullptr,
                picture<typename K::template PixelsOf<T>>(out, i),
                relu};
            K::forward(conv, blocks, int(task % blocks.count()), memory);
          });
  });
}

void masked_conv(const py::buffer& x, const py::buffer& weight,
                 const std::optional<py::buffer>& bias, const std::optional<py::buffer>& residual,
                 const py::buffer& out, bool relu, int threads) {
  if (holds<float>(x.request()))
    masked_conv_as<float>(x, weight, bias, residual, out, relu, threads);
  else masked_conv_as<double>(x, weight, bias, residual, out, relu, threads);
}

template <class T>
void masked_conv_weight_as(const py::buffer& grad_buffer, const py::buffer& x_buffer,
                           const py::buffer& weight_buffer, int threads) {
  const auto grad = array<T>("grad", grad_buffer, 4, READ_STRIDED);
  const auto x = array<T>("x", x_buffer, 4, READ_STRIDED);
  const auto weight = array<T>("weight", weight_buffer, 4, WRITE_STRIDED);
  check(x, grad, "grad", weight);
  const std::int64_t deep = (x.size(1) + DEEP - 1) / DEEP;
  const std::int64_t wide = (grad.size(1) + OUTS - 1) / OUTS, cells = deep * wide;
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    using Read = typename K::template PixelsOf<const T>;
    const typename K::Grid blocks(int(x.size(2)), int(x.size(3)));
    const std::int64_t all = x.size(0) * blocks.count();
    const std::int64_t parts =
        std::clamp<std::int64_t>(std::min(TASKS / cells, all / LEAST_BLOCKS), 1, all);
    const std::int64_t size = K::template products_size<T>(DEEP, OUTS);
    const Memory memory = allocate(cells * parts * size * std::int64_t(sizeof(T)));
    T* const products = reinterpret_cast<T*>(memory.get());
    // Of cell i: its first channel and result, and how many.
    const auto cell = [&](std::int64_t i) {
      const int c = int(i % deep * DEEP), o = int(i / deep * OUTS);
      return std::array<int, 4>{c, std::min(DEEP, int(x.size(1)) - c), o,
                                std::min(OUTS, int(grad.size(1)) - o)};
    };
    share(cells * parts, threads, K::template back_workspace<T>(blocks),
          [&](std::int64_t task, char* own) {
            const auto [c, channels, o, outs] = cell(task / parts);
            const std::int64_t begin = task % parts * all / parts;
            const std::int64_t end = (task % parts + 1) * all / parts;
            for (std::int64_t i = begin; i < end; ++i) {
              const std::int64_t image = i / blocks.count();
              K::products(picture<Read>(x, image).from(c, channels),
                          picture<Read>(grad, image).from(o, outs), blocks, int(i % blocks.count()),
                          i == begin, own, products + task * size);
            }
          });
    const auto taps = weights_of<typename K::template WeightsOf<T>>(weight);
    share(cells, threads, 1, [&](std::int64_t i, char*) {
      const auto [c, channels, o, outs] = cell(i);
      auto own = taps;
      own.data = taps.at(o, c, 0), own.outs = outs, own.channels = channels;
      K::backward(products + i * parts * size, int(parts), size, own);
    });
  });
}

void masked_conv_weight(const py::buffer& grad, const py::buffer& x, const py::buffer& weight,
                        int threads) {
  if (holds<float>(x.request())) masked_conv_weight_as<float>(grad, x, weight, threads);
  else masked_conv_weight_as<double>(grad, x, weight, threads);
}

}  // namespace

void bind_masked_conv(py::module_& m) {
  m.def("masked_conv", &masked_conv, py::arg("x"), py::arg("weight"), py::arg("bias"),
        py::arg("residual"), py::arg("out"), py::arg("relu"), py::arg("threads"));
  m.def("masked_conv_weight", &masked_conv_weight, py::arg("grad"), py::arg("x"), py::arg("weight"),
        py::arg("threads"));
}
