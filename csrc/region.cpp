// Bindings of csrc/region.h.

#define FASTSEG_KERNELS "region_kernels.h"
#include "each_isa.h"
//
#include "region_buffers.h"

namespace {

// work(kernels, job, image, memory): a job is one image and a share of the channels.
template <class T, class F>
void each_job(const Pool<T>& pool, int threads, F work) {
  threads = crew(pool.batch * pool.size * pool.channels, threads);
  // Planes are shared out in small parts, so that threads end together. Of rows, whose channels
  // lie together, no more parts than threads.
  const std::int64_t least = pool.rows ? 16 : 4;
  std::int64_t part = pool.rows ? pool.batch * pool.channels / std::max(1, threads) : least;
  part = std::max(least, std::min(part, pool.channels) / least * least);
  const std::int64_t parts = (pool.channels + part - 1) / part;
  with_kernels([&](auto kernels) {
    using Job = typename decltype(kernels)::template Job<T>;
    const Job whole{pool.size, pool.channels, 0, part, int(pool.regions), pool.rows};
    share(pool.batch * parts, threads, whole.memory(), [&](std::int64_t task, char* memory) {
      Job job = whole;
      job.from = task % parts * part;
      job.to = std::min<std::int64_t>(job.from + part, pool.channels);
      work(kernels, job, task / parts, memory);
    });
  });
}

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
  each_job(pool, threads, [&](auto kernels, const auto& job, std::int64_t b, char* memory) {
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
  each_job(pool, threads, [&](auto kernels, const auto& job, std::int64_t b, char* memory) {
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
  each_job(pool, threads, [&](auto kernels, const auto& job, std::int64_t b, char*) {
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
  each_job(pool, threads, [&](auto kernels, const auto& job, std::int64_t b, char*) {
    kernels.scatter(job, pool.vectors(b), pool.places(at, b), pool.image(b));
  });
}

void region_scatter(const py::buffer& z, const py::buffer& at, const py::buffer& out,
                    bool channels_last, int threads) {
  const auto run = holds<double>(z.request()) ? scatter_as<double> : scatter_as<float>;
  run(z, at, out, channels_last, threads);
}

}  // namespace

void bind_region(py::module_& m) {
  m.def("region_sum", &region_sum, py::arg("x"), py::arg("runs"), py::arg("num_runs"),
        py::arg("out"), py::arg("channels_last"), py::arg("threads"));
  m.def("region_max", &region_max, py::arg("x"), py::arg("runs"), py::arg("num_runs"),
        py::arg("counts"), py::arg("out"), py::arg("argmax"), py::arg("channels_last"),
        py::arg("threads"));
  m.def("region_unpool", &region_unpool, py::arg("z"), py::arg("runs"), py::arg("num_runs"),
        py::arg("out"), py::arg("channels_last"), py::arg("threads"));
  m.def("region_scatter", &region_scatter, py::arg("z"), py::arg("at"), py::arg("out"),
        py::arg("channels_last"), py::arg("threads"));
}
