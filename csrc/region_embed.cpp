// Bindings of csrc/region_spp.h and csrc/region_resize.h.

#define FASTSEG_KERNELS "region_embed_kernels.h"
#include <numeric>
#include <optional>

#include "each_isa.h"
//
#include "region_buffers.h"

namespace {

// Labels (B,H,W) and boxes (B,R,4) of the images of x (B,C,HW), or (B,HW,C) with channels last.
template <class T>
struct Boxed {
  Array<T> x;
  Array<std::int32_t> labels, boxes;
  bool rows;
  std::int64_t batch, size, width, channels, regions;

  Boxed(const py::buffer& x_buffer, Use use_x, const py::buffer& labels_buffer,
        const py::buffer& boxes_buffer, bool channels_last)
      : x(array<T>("x", x_buffer, 3, use_x)),
        labels(array<std::int32_t>("labels", labels_buffer, 3)),
        boxes(array<std::int32_t>("boxes", boxes_buffer, 3)),
        rows(channels_last),
        batch(x.size(0)),
        size(x.size(rows ? 1 : 2)),
        width(labels.size(2)),
        channels(x.size(rows ? 2 : 1)),
        regions(boxes.size(1)) {
    need(labels.size(0) == batch && labels.size(1) * width == size,
         "`labels` must have shape (B, H, W)");
    need(boxes.size(0) == batch && boxes.size(2) == 4, "`boxes` must have shape (B, R, 4)");
    if (use_x == WRITE) hint_large(x.data(), x.info.size * sizeof(T));
  }

  // work(kernels, its problem, image, the channels from, to, memory)
  template <class Problem, class F>
  void each(Problem problem_of, int threads, F work) const {
    with_kernels([&](auto kernels) {
      using K = decltype(kernels);
      // A strip of planes is a vector; of rows, whose pixels lie apart, several.
      const std::int64_t strip = K::template WIDTH<T> * (rows ? 4 : 1);
      const std::int64_t parts = (channels + strip - 1) / strip;
      const auto whole = problem_of(kernels);
      share(batch * parts, crew(batch * size * channels, threads), K::memory(size, whole, T{}),
            [&](std::int64_t task, char* memory) {
              const std::int64_t b = task / parts, from = task % parts * strip;
              auto problem = whole;
              problem.labels = labels.data() + b * size;
              problem.boxes = boxes.data() + b * regions * 4;
              work(kernels, problem, b, from, std::min(from + strip, channels), memory);
            });
    });
  }
};

// --- pyramids -----------------------------------------------------------------------------------

// The bins of a pyramid, level by level, finest first.
struct Levels {
  std::vector<int> levels, offsets;  // of each level's bins among all
  int bins = 0;

  explicit Levels(const std::vector<int>& given) {
    std::vector<int> begin, order(given.size());
    for (int level : given) {
      need(level > 0, "`levels` must be positive");
      begin.push_back(bins);
      bins += level * level;
    }
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return given[a] > given[b]; });
    for (int i : order) levels.push_back(given[i]), offsets.push_back(begin[i]);
  }
};

template <class T>
void spp_as(const py::buffer& x, const py::buffer& labels, const py::buffer& boxes,
            const std::vector<int>& given, std::optional<double> fill, const py::buffer& out_buffer,
            const std::optional<py::buffer>& argmax_buffer, bool channels_last, int threads) {
  const Boxed<T> boxed(x, READ, labels, boxes, channels_last);
  const Levels levels(given);
  const auto out = array<T>("out", out_buffer, 3, WRITE);
  const std::int64_t bins = boxed.regions * levels.bins;
  need(out.size(0) == boxed.batch && out.size(1) == bins && out.size(2) == boxed.channels,
       "`out` must have shape (B, R·bins, C)");
  hint_large(out.data(), out.info.size * sizeof(T));
  std::optional<Array<std::int32_t>> argmax;
  if (argmax_buffer) {
    argmax = array<std::int32_t>("argmax", *argmax_buffer, 3, WRITE);
    need(argmax->info.shape == out.info.shape, "`argmax` must have the shape of `out`");
    hint_large(argmax->data(), argmax->info.size * sizeof(std::int32_t));
  }
  auto problem = [&](auto kernels) {
    using Problem = typename decltype(kernels)::template SppProblem<T>;
    return Problem{nullptr,
                   boxed.width,
                   nullptr,
                   int(boxed.regions),
                   levels.levels.data(),
                   levels.offsets.data(),
                   int(levels.levels.size()),
                   levels.bins,
                   fill.has_value(),
                   T(fill.value_or(0))};
  };
  boxed.each(problem, threads,
             [&](auto kernels, const auto& spp, auto b, auto from, auto to, char* memory) {
               kernels.spp(spp, boxed.x.data() + b * boxed.size * boxed.channels, boxed.size,
                           boxed.channels, from, to, boxed.rows, memory,
                           out.data() + b * bins * boxed.channels,
                           argmax ? argmax->data() + b * bins * boxed.channels : nullptr);
             });
}

void region_spp(const py::buffer& x, const py::buffer& labels, const py::buffer& boxes,
                const std::vector<int>& levels, std::optional<double> fill, const py::buffer& out,
                const std::optional<py::buffer>& argmax, bool channels_last, int threads) {
  const auto run = holds<double>(x.request()) ? spp_as<double> : spp_as<float>;
  run(x, labels, boxes, levels, fill, out, argmax, channels_last, threads);
}

// --- resampling ---------------------------------------------------------------------------------

// x ↔ z (B,R,C,h,w): what `resize` makes of x if x is read, and of z its adjoint if it is written.
template <class T>
void resize_as(const py::buffer& x, Use use_x, const py::buffer& labels, const py::buffer& boxes,
               const py::buffer& z_buffer, Use use_z, bool channels_last, int threads) {
  const Boxed<T> boxed(x, use_x, labels, boxes, channels_last);
  const auto z = array<T>("z", z_buffer, 5, use_z);
  need(z.size(0) == boxed.batch && z.size(1) == boxed.regions && z.size(2) == boxed.channels,
       "`z` must have shape (B, R, C, h, w)");
  if (use_z == WRITE) hint_large(z.data(), z.info.size * sizeof(T));
  auto problem = [&](auto kernels) {
    using Problem = typename decltype(kernels)::ResizeProblem;
    return Problem{nullptr,        boxed.width,   nullptr, int(boxed.regions),
                   int(z.size(3)), int(z.size(4))};
  };
  boxed.each(problem, threads,
             [&](auto kernels, const auto& job, auto b, auto from, auto to, char* memory) {
               T* image = boxed.x.data() + b * boxed.size * boxed.channels;
               T* results = z.data() + b * boxed.regions * boxed.channels * job.size();
               if (use_x == READ)
                 kernels.template resize<T>(job, image, boxed.size, boxed.channels, from, to,
                                            boxed.rows, memory, results);
               else
                 kernels.template spread<T>(job, results, boxed.size, boxed.channels, from, to,
                                            boxed.rows, memory, image);
             });
}

void region_resize(const py::buffer& x, const py::buffer& labels, const py::buffer& boxes,
                   const py::buffer& z, bool channels_last, int threads) {
  const auto run = holds<double>(x.request()) ? resize_as<double> : resize_as<float>;
  run(x, READ, labels, boxes, z, WRITE, channels_last, threads);
}

void region_spread(const py::buffer& z, const py::buffer& labels, const py::buffer& boxes,
                   const py::buffer& x, bool channels_last, int threads) {
  const auto run = holds<double>(x.request()) ? resize_as<double> : resize_as<float>;
  run(x, WRITE, labels, boxes, z, READ, channels_last, threads);
}

}  // namespace

void bind_region_embed(py::module_& m) {
  m.def("region_spp", &region_spp, py::arg("x"), py::arg("labels"), py::arg("boxes"),
        py::arg("levels"), py::arg("fill"), py::arg("out"), py::arg("argmax"),
        py::arg("channels_last"), py::arg("threads"));
  m.def("region_resize", &region_resize, py::arg("x"), py::arg("labels"), py::arg("boxes"),
        py::arg("z"), py::arg("channels_last"), py::arg("threads"));
  m.def("region_spread", &region_spread, py::arg("z"), py::arg("labels"), py::arg("boxes"),
        py::arg("x"), py::arg("channels_last"), py::arg("threads"));
}
