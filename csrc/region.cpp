// Bindings of csrc/region.h, and the index of regions that its kernels walk.

#define FASTSEG_KERNELS "region_kernels.h"
#include <numeric>
#include <optional>

#include "each_isa.h"

namespace {

using i64 = long long;

// Work that pays for a thread of its own.
constexpr std::int64_t LEAST_VALUES = 1 << 15;

int crew(std::int64_t values, int threads) {
  return int(std::min<std::int64_t>(threads, 1 + values / LEAST_VALUES));
}

// --- index --------------------------------------------------------------------------------------

// Of one image: runs (first, end, region), pixels and box (top, left, bottom, right) a region.
// Returns the pixel of the first label that is too large, or −1.
template <class Label>
std::int64_t index_image(const Label* labels, std::int64_t height, std::int64_t width,
                         std::int64_t regions, std::int32_t* runs, std::int32_t* num_runs,
                         std::int32_t* counts, std::int32_t* boxes) {
  std::fill(counts, counts + regions, 0);
  std::fill(boxes, boxes + 4 * regions, 0);
  std::int32_t* run = runs;
  for (std::int64_t y = 0; y < height; ++y) {
    const Label* row = labels + y * width;
    for (std::int64_t x = 0; x < width;) {
      const Label label = row[x];
      const std::int64_t first = x;
      while (++x < width && row[x] == label) continue;
      if (label < 0) continue;
      if (label >= regions) return y * width + first;
      *run++ = std::int32_t(y * width + first);
      *run++ = std::int32_t(y * width + x);
      *run++ = std::int32_t(label);
      std::int32_t* box = boxes + 4 * label;
      if (counts[label] == 0) box[0] = std::int32_t(y), box[1] = std::int32_t(width);
      counts[label] += std::int32_t(x - first);
      box[1] = std::min(box[1], std::int32_t(first));
      box[2] = std::int32_t(y + 1);
      box[3] = std::max(box[3], std::int32_t(x));
    }
  }
  *num_runs = std::int32_t((run - runs) / 3);
  return -1;
}

template <class Label>
std::int64_t index_as(const py::buffer& labels_buffer, const py::buffer& runs_buffer,
                      const py::buffer& num_runs_buffer, const py::buffer& counts_buffer,
                      const py::buffer& boxes_buffer, int threads) {
  const auto labels = array<Label>("labels", labels_buffer, 3);
  const auto runs = array<std::int32_t>("runs", runs_buffer, 3, WRITE);
  const auto num_runs = array<std::int32_t>("num_runs", num_runs_buffer, 1, WRITE);
  const auto counts = array<std::int32_t>("counts", counts_buffer, 2, WRITE);
  const auto boxes = array<std::int32_t>("boxes", boxes_buffer, 3, WRITE);
  const std::int64_t batch = labels.size(0), height = labels.size(1), width = labels.size(2);
  const std::int64_t size = height * width, regions = counts.size(1);
  need(size <= INT32_MAX, "`labels` must have fewer than 2³¹ pixels an image");
  need(runs.size(0) == batch && runs.size(1) == size && runs.size(2) == 3,
       "`runs` must have shape (B, H·W, 3)");
  need(num_runs.size(0) == batch && counts.size(0) == batch,
       "`num_runs` and `counts` must have the B of `labels`");
  need(boxes.size(0) == batch && boxes.size(1) == regions && boxes.size(2) == 4,
       "`boxes` must have shape (B, R, 4)");
  std::vector<std::int64_t> bad(batch, -1);
  share(batch, crew(batch * size, threads), 0, [&](std::int64_t b, char*) {
    bad[b] = index_image(labels.data() + b * size, height, width, regions,
                         runs.data() + b * size * 3, num_runs.data() + b,
                         counts.data() + b * regions, boxes.data() + b * regions * 4);
  });
  for (std::int64_t b = 0; b < batch; ++b)
    if (bad[b] >= 0) return b * size + bad[b];
  return -1;
}

std::int64_t region_index(const py::buffer& labels, const py::buffer& runs,
                          const py::buffer& num_runs, const py::buffer& counts,
                          const py::buffer& boxes, int threads) {
  const bool wide = holds<std::int64_t>(labels.request());
  const auto run = wide ? index_as<std::int64_t> : index_as<std::int32_t>;
  return run(labels, runs, num_runs, counts, boxes, threads);
}

// --- pooling ------------------------------------------------------------------------------------

// Pixels x (B,C,HW), or (B,HW,C) with channels last, regions z (B,R,C), and how the work on them is
// shared out.
template <class T>
struct Pool {
  Array<T> x, z;
  bool rows;
  std::int64_t batch, size, channels, regions;

  Pool(const py::buffer& x_buffer, Use use_x, const py::buffer& z_buffer, Use use_z,
       bool channels_last)
      : x(array<T>("x", x_buffer, 3, use_x)),
        z(array<T>("z", z_buffer, 3, use_z)),
        rows(channels_last),
        batch(x.size(0)),
        size(x.size(rows ? 1 : 2)),
        channels(x.size(rows ? 2 : 1)),
        regions(z.size(1)) {
    need(z.size(0) == batch && z.size(2) == channels, "`z` must have shape (B, R, C)");
    if (use_x == WRITE) hint_large(x.data(), x.info.size * sizeof(T));
    if (use_z == WRITE) hint_large(z.data(), z.info.size * sizeof(T));
  }

  // work(kernels, job, image, memory): a job is one image and a share of the channels.
  template <class F>
  void each(int threads, F work) const {
    threads = crew(batch * size * channels, threads);
    // Planes are shared out in small parts, so that threads end together. Of rows, whose channels
    // lie together, no more parts than threads.
    const std::int64_t least = rows ? 16 : 4;
    std::int64_t part = rows ? batch * channels / std::max(1, threads) : least;
    part = std::max(least, std::min(part, channels) / least * least);
    const std::int64_t parts = (channels + part - 1) / part;
    with_kernels([&](auto kernels) {
      using Job = typename decltype(kernels)::template Job<T>;
      const Job whole{size, channels, 0, part, int(regions), rows};
      share(batch * parts, threads, whole.memory(), [&](std::int64_t task, char* memory) {
        Job job = whole;
        job.from = task % parts * part;
        job.to = std::min<i64>(job.from + part, channels);
        work(kernels, job, task / parts, memory);
      });
    });
  }

  T* image(std::int64_t b) const { return x.data() + b * size * channels; }
  T* vectors(std::int64_t b) const { return z.data() + b * regions * channels; }
  std::int32_t* places(const Array<std::int32_t>& at, std::int64_t b) const {
    return at.data() + b * regions * channels;
  }
};

// The runs of every image.
struct Runs {
  Array<std::int32_t> runs, num_runs;

  template <class T>
  Runs(const py::buffer& runs_buffer, const py::buffer& num_runs_buffer, const Pool<T>& pool)
      : runs(array<std::int32_t>("runs", runs_buffer, 3)),
        num_runs(array<std::int32_t>("num_runs", num_runs_buffer, 1)) {
    need(runs.size(0) == pool.batch && runs.size(1) == pool.size && runs.size(2) == 3,
         "`runs` must have shape (B, H·W, 3)");
    need(num_runs.size(0) == pool.batch, "`num_runs` must have shape (B)");
  }

  template <class Kernels>
  typename Kernels::RegionRuns of(Kernels, std::int64_t b) const {
    using Run = typename Kernels::RegionRun;
    const Run* first = reinterpret_cast<const Run*>(runs.data() + b * runs.size(1) * 3);
    return {first, num_runs.data()[b]};
  }
};

template <class T>
void sum_as(const py::buffer& x, const py::buffer& runs_buffer, const py::buffer& num_runs,
            const py::buffer& out, bool channels_last, int threads) {
  const Pool<T> pool(x, READ, out, WRITE, channels_last);
  const Runs runs(runs_buffer, num_runs, pool);
  pool.each(threads, [&](auto kernels, const auto& job, std::int64_t b, char* memory) {
    kernels.sum(job, runs.of(kernels, b), pool.image(b), memory, pool.vectors(b));
  });
}

void region_sum(const py::buffer& x, const py::buffer& runs, const py::buffer& num_runs,
                const py::buffer& out, bool channels_last, int threads) {
  const auto run = holds<double>(x.request()) ? sum_as<double> : sum_as<float>;
  run(x, runs, num_runs, out, channels_last, threads);
}

template <class T>
void max_as(const py::buffer& x, const py::buffer& runs_buffer, const py::buffer& num_runs,
            const py::buffer& counts_buffer, const py::buffer& out, const py::buffer& argmax_buffer,
            bool channels_last, int threads) {
  const Pool<T> pool(x, READ, out, WRITE, channels_last);
  const Runs runs(runs_buffer, num_runs, pool);
  const auto counts = array<std::int32_t>("counts", counts_buffer, 2);
  const auto argmax = array<std::int32_t>("argmax", argmax_buffer, 3, WRITE);
  need(counts.size(0) == pool.batch && counts.size(1) == pool.regions,
       "`counts` must have shape (B, R)");
  need(argmax.info.shape == pool.z.info.shape, "`argmax` must have the shape of `out`");
  pool.each(threads, [&](auto kernels, const auto& job, std::int64_t b, char* memory) {
    kernels.max(job, runs.of(kernels, b), pool.image(b), counts.data() + b * pool.regions, memory,
                pool.vectors(b), pool.places(argmax, b));
  });
}

void region_max(const py::buffer& x, const py::buffer& runs, const py::buffer& num_runs,
                const py::buffer& counts, const py::buffer& out, const py::buffer& argmax,
                bool channels_last, int threads) {
  const auto run = holds<double>(x.request()) ? max_as<double> : max_as<float>;
  run(x, runs, num_runs, counts, out, argmax, channels_last, threads);
}

template <class T>
void unpool_as(const py::buffer& z, const py::buffer& runs_buffer, const py::buffer& num_runs,
               const py::buffer& out, bool channels_last, int threads) {
  const Pool<T> pool(out, WRITE, z, READ, channels_last);
  const Runs runs(runs_buffer, num_runs, pool);
  pool.each(threads, [&](auto kernels, const auto& job, std::int64_t b, char*) {
    kernels.unpool(job, runs.of(kernels, b), pool.vectors(b), pool.image(b));
  });
}

void region_unpool(const py::buffer& z, const py::buffer& runs, const py::buffer& num_runs,
                   const py::buffer& out, bool channels_last, int threads) {
  const py::buffer_info info = z.request();
  const auto run = holds<double>(info)         ? unpool_as<double>
                   : holds<std::int16_t>(info) ? unpool_as<std::int16_t>
                                               : unpool_as<float>;
  run(z, runs, num_runs, out, channels_last, threads);
}

template <class T>
void scatter_as(const py::buffer& z, const py::buffer& at_buffer, const py::buffer& out,
                bool channels_last, int threads) {
  const Pool<T> pool(out, WRITE, z, READ, channels_last);
  const auto at = array<std::int32_t>("at", at_buffer, 3);
  need(at.info.shape == pool.z.info.shape, "`at` must have the shape of `z`");
  pool.each(threads, [&](auto kernels, const auto& job, std::int64_t b, char*) {
    kernels.scatter(job, pool.vectors(b), pool.places(at, b), pool.image(b));
  });
}

void region_scatter(const py::buffer& z, const py::buffer& at, const py::buffer& out,
                    bool channels_last, int threads) {
  const auto run = holds<double>(z.request()) ? scatter_as<double> : scatter_as<float>;
  run(z, at, out, channels_last, threads);
}

// --- pyramids -----------------------------------------------------------------------------------

template <class T>
void spp_as(const py::buffer& x, const py::buffer& labels_buffer, const py::buffer& boxes_buffer,
            const std::vector<int>& levels, std::optional<double> fill, const py::buffer& out,
            const py::buffer& argmax_buffer, bool channels_last, int threads) {
  const Pool<T> pool(x, READ, out, WRITE, channels_last);
  const auto labels = array<std::int32_t>("labels", labels_buffer, 3);
  const auto boxes = array<std::int32_t>("boxes", boxes_buffer, 3);
  const auto argmax = array<std::int32_t>("argmax", argmax_buffer, 3, WRITE);
  hint_large(argmax.data(), argmax.info.size * sizeof(std::int32_t));
  need(std::all_of(levels.begin(), levels.end(), [](int level) { return level > 0; }),
       "`levels` must be positive");
  const std::int64_t regions = boxes.size(1), width = labels.size(2);
  need(labels.size(0) == pool.batch && labels.size(1) * width == pool.size,
       "`labels` must have shape (B, H, W)");
  need(boxes.size(0) == pool.batch && boxes.size(2) == 4, "`boxes` must have shape (B, R, 4)");
  need(argmax.info.shape == pool.z.info.shape, "`argmax` must have the shape of `out`");
  std::vector<int> order(levels.size()), finest, offsets;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return levels[a] > levels[b]; });
  std::vector<int> begin{0};
  for (int level : levels) begin.push_back(begin.back() + level * level);
  for (int i : order) finest.push_back(levels[i]), offsets.push_back(begin[i]);
  need(pool.regions == regions * begin.back(), "`out` must have shape (B, R·bins, C)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    constexpr int strip = K::template CHANNELS<T>;
    const std::int64_t parts = (pool.channels + strip - 1) / strip;
    typename K::template SppProblem<T> spp{nullptr,
                                           width,
                                           nullptr,
                                           int(regions),
                                           finest.data(),
                                           offsets.data(),
                                           int(finest.size()),
                                           begin.back(),
                                           fill.has_value(),
                                           T(fill.value_or(0))};
    share(pool.batch * parts, crew(pool.batch * pool.size * pool.channels, threads),
          K::spp_memory(pool.size, spp), [&, spp](std::int64_t task, char* memory) mutable {
            const std::int64_t b = task / parts, from = task % parts * strip;
            auto mine = spp;
            mine.labels = labels.data() + b * pool.size;
            mine.boxes = boxes.data() + b * regions * 4;
            K::spp(mine, pool.image(b), pool.size, pool.channels, from,
                   int(std::min<std::int64_t>(strip, pool.channels - from)), pool.rows, memory,
                   pool.vectors(b), pool.places(argmax, b));
          });
  });
}

void region_spp(const py::buffer& x, const py::buffer& labels, const py::buffer& boxes,
                const std::vector<int>& levels, std::optional<double> fill, const py::buffer& out,
                const py::buffer& argmax, bool channels_last, int threads) {
  const auto run = holds<double>(x.request()) ? spp_as<double> : spp_as<float>;
  run(x, labels, boxes, levels, fill, out, argmax, channels_last, threads);
}

}  // namespace

void bind_region(py::module_& m) {
  m.def("region_index", &region_index, py::arg("labels"), py::arg("runs"), py::arg("num_runs"),
        py::arg("counts"), py::arg("boxes"), py::arg("threads"));
  m.def("region_sum", &region_sum, py::arg("x"), py::arg("runs"), py::arg("num_runs"),
        py::arg("out"), py::arg("channels_last"), py::arg("threads"));
  m.def("region_max", &region_max, py::arg("x"), py::arg("runs"), py::arg("num_runs"),
        py::arg("counts"), py::arg("out"), py::arg("argmax"), py::arg("channels_last"),
        py::arg("threads"));
  m.def("region_unpool", &region_unpool, py::arg("z"), py::arg("runs"), py::arg("num_runs"),
        py::arg("out"), py::arg("channels_last"), py::arg("threads"));
  m.def("region_scatter", &region_scatter, py::arg("z"), py::arg("at"), py::arg("out"),
        py::arg("channels_last"), py::arg("threads"));
  m.def("region_spp", &region_spp, py::arg("x"), py::arg("labels"), py::arg("boxes"),
        py::arg("levels"), py::arg("fill"), py::arg("out"), py::arg("argmax"),
        py::arg("channels_last"), py::arg("threads"));
}
