// Bindings of csrc/slic.h.

#include "crew.h"

// Labels compare with scikit-image's only if products are rounded before they are added.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#endif

#define FASTSEG_KERNELS "slic_kernels.h"
#include "each_isa.h"

namespace {

// From this many pixels on, several threads work on one image if there are too few images.
constexpr std::int64_t LARGE = 1 << 14;

template <class Pixel>
void extremes_as(const py::buffer& images_buffer, const py::buffer& least_buffer,
                 const py::buffer& most_buffer, int threads) {
  constexpr std::int64_t PART = 1 << 18;  // values of a task
  const auto images = array<Pixel>("images", images_buffer, 2, READ_STRIDED);
  const auto least = array<float>("least", least_buffer, 1, WRITE);
  const auto most = array<float>("most", most_buffer, 1, WRITE);
  const std::int64_t batch = images.size(0), size = images.size(1);
  need(images.stride[1] == 1 || size == 1, "`images` must have rows without gaps");
  need(least.size(0) == batch && most.size(0) == batch, "`least` and `most` must have shape (B)");
  const std::int64_t parts = (size + PART - 1) / PART;
  std::vector<float> lows(batch * parts), highs(batch * parts);
  with_kernels([&](auto kernels) {
    share(batch * parts, threads, 0, [&](std::int64_t task, char*) {
      const std::int64_t b = task / parts, first = task % parts * PART;
      decltype(kernels)::extremes(images.data() + b * images.stride[0] + first,
                                  std::min(PART, size - first), lows[task], highs[task]);
    });
  });
  for (std::int64_t b = 0; b < batch; ++b) {
    float low = lows[b * parts], high = highs[b * parts];
    for (std::int64_t i = b * parts + 1; i < (b + 1) * parts && low == low; ++i)
      low = lows[i] >= low ? low : lows[i], high = highs[i] <= high ? high : highs[i];
    least.data()[b] = low, most.data()[b] = high;
  }
}

void extremes(const py::buffer& images, const py::buffer& least, const py::buffer& most,
              int threads) {
  const auto run =
      holds<std::uint8_t>(images.request()) ? extremes_as<std::uint8_t> : extremes_as<float>;
  run(images, least, most, threads);
}

template <class Pixel>
void rgb_to_lab_as(const py::buffer& images_buffer, const py::buffer& low_buffer,
                   const py::buffer& range_buffer, const py::buffer& out_buffer, int threads) {
  const auto images = array<Pixel>("images", images_buffer, 4, READ_STRIDED);
  const auto low = array<float>("low", low_buffer, 1);
  const auto range = array<float>("range", range_buffer, 1);
  const auto out = array<float>("out", out_buffer, 4, WRITE);
  const std::int64_t batch = images.size(0), height = images.size(2), width = images.size(3);
  need(images.size(1) == 3, "`images` must have 3 channels");
  need(out.info.shape == images.info.shape, "`out` must have the shape of `images`");
  need(low.size(0) == batch && range.size(0) == batch, "`low` and `range` must have shape (B)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    share(batch * height, threads, 0, [&](std::int64_t task, char*) {
      const std::int64_t b = task / height, y = task % height;
      const long long stride[] = {images.stride[1], images.stride[2], images.stride[3]};
      K::lab_row(images.data() + b * images.stride[0], stride, low.data()[b], range.data()[b],
                 int(y), int(width), out.data() + b * out.stride[0] + y * width, out.stride[1]);
    });
  });
}

void rgb_to_lab(const py::buffer& images, const py::buffer& low, const py::buffer& range,
                const py::buffer& out, int threads) {
  const auto run =
      holds<std::uint8_t>(images.request()) ? rgb_to_lab_as<std::uint8_t> : rgb_to_lab_as<float>;
  run(images, low, range, out, threads);
}

struct Options {
  int iterations;
  bool lab, zero, seek, connect;
  float scale;
  int start, threads;
};

template <class Pixel>
void slic_as(const py::buffer& images_buffer, const py::buffer& low_buffer,
             const py::buffer& range_buffer, const py::buffer& seeds_buffer,
             const py::buffer& weight_buffer, const py::buffer& reach_buffer,
             const py::buffer& sizes_buffer, const py::buffer& labels_buffer,
             const Options& options) {
  const auto images = array<Pixel>("images", images_buffer, 4, READ_STRIDED);
  const auto low = array<float>("low", low_buffer, 1);
  const auto range = array<float>("range", range_buffer, 1);
  const auto seeds = array<float>("seeds", seeds_buffer, 3);
  const auto weight = array<float>("weight", weight_buffer, 1);
  const auto reach = array<std::int32_t>("reach", reach_buffer, 2);
  const auto sizes = array<std::int32_t>("sizes", sizes_buffer, 2);
  const auto labels = array<std::int32_t>("labels", labels_buffer, 3, WRITE);
  const std::int64_t batch = images.size(0), channels = images.size(1);
  const std::int64_t height = images.size(2), width = images.size(3), centres = seeds.size(1);
  need(channels > 0 && height > 0 && width > 0, "`images` must not be empty");
  need(!options.lab || channels == 3, "`images` must have 3 channels to be converted to Lab");
  need(labels.size(0) == batch && labels.size(1) == height && labels.size(2) == width,
       "`labels` must have shape (B, H, W)");
  need(seeds.size(0) == batch && seeds.size(2) == 2, "`seeds` must have shape (B, K, 2)");
  need(low.size(0) == batch && range.size(0) == batch && weight.size(0) == batch,
       "`low`, `range` and `weight` must have shape (B)");
  need(reach.size(0) == batch && reach.size(1) == 2 && sizes.size(0) == batch && sizes.size(1) == 2,
       "`reach` and `sizes` must have shape (B, 2)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const auto problem = [&](std::int64_t b) {
      const int *of_reach = reach.data() + 2 * b, *of_size = sizes.data() + 2 * b;
      const typename K::Problem p{int(channels),      int(height),  int(width),   int(centres),
                                  options.iterations, options.zero, options.seek, options.connect,
                                  of_size[0],         of_size[1],   of_reach[0],  of_reach[1],
                                  weight.data()[b]};
      need(of_reach[0] > 0 && of_reach[1] > 0, "`reach` must be positive");
      need(K::most_candidates(p) < 1ll << 31, "`images` and `seeds` are too large together");
      return p;
    };
    std::int64_t bytes = 0;
    for (std::int64_t b = 0; b < batch; ++b)
      bytes = std::max<std::int64_t>(bytes, K::workspace(problem(b)));
    const auto segment = [&](std::int64_t b, char* memory, int tasks, auto each) {
      const long long stride[] = {images.stride[1], images.stride[2], images.stride[3]};
      K::slic(problem(b), images.data() + b * images.stride[0], stride, low.data()[b],
              range.data()[b], options.lab, options.scale, seeds.data() + b * centres * 2,
              options.start, labels.data() + b * height * width, memory, tasks, each);
    };
    if (batch < options.threads && height * width >= LARGE) {
      const Memory memory = allocate(bytes);
      py::gil_scoped_release release;
      Crew crew(options.threads);
      for (std::int64_t b = 0; b < batch; ++b)
        segment(b, memory.get(), 4 * options.threads,
                [&](int n, const auto& f) { crew.each(n, f); });
    } else {
      share(batch, options.threads, bytes, [&](std::int64_t b, char* memory) {
        segment(b, memory, 1, [](std::int64_t n, const auto& f) {
          for (std::int64_t i = 0; i < n; ++i) f(int(i));
        });
      });
    }
  });
}

void slic(const py::buffer& images, const py::buffer& low, const py::buffer& range,
          const py::buffer& seeds, const py::buffer& weight, const py::buffer& reach,
          const py::buffer& sizes, const py::buffer& labels, int iterations, bool lab, float scale,
          bool zero, bool seek, bool connect, int start, int threads) {
  const auto run = holds<std::uint8_t>(images.request()) ? slic_as<std::uint8_t> : slic_as<float>;
  run(images, low, range, seeds, weight, reach, sizes, labels,
      {iterations, lab, zero, seek, connect, scale, start, threads});
}

}  // namespace

void bind_slic(py::module_& m) {
  m.def("extremes", &extremes, py::arg("images"), py::arg("least"), py::arg("most"),
        py::arg("threads"));
  m.def("rgb_to_lab", &rgb_to_lab, py::arg("images"), py::arg("low"), py::arg("range"),
        py::arg("out"), py::arg("threads"));
  m.def("slic", &slic, py::arg("images"), py::arg("low"), py::arg("range"), py::arg("seeds"),
        py::arg("weight"), py::arg("reach"), py::arg("sizes"), py::arg("labels"),
        py::arg("iterations"), py::arg("lab"), py::arg("scale"), py::arg("zero"), py::arg("seek"),
        py::arg("connect"), py::arg("start"), py::arg("threads"));
}
