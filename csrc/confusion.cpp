// Bindings of csrc/confusion.h.

#include <limits>

#define FASTSEG_KERNELS "confusion_kernels.h"
#include "each_isa.h"

namespace {

constexpr std::int64_t FEW = 2048;       // pairs of which four counters each fit in the first cache
constexpr std::int64_t LEAST = 1 << 16;  // pixels worth a thread

// f(a value of the type of the labels)
template <class F>
void with_labels(const char* name, const py::buffer_info& info, F f) {
  if (holds<std::uint8_t>(info)) return f(std::uint8_t());
  if (holds<std::int16_t>(info)) return f(std::int16_t());
  if (holds<std::int32_t>(info)) return f(std::int32_t());
  if (holds<std::int64_t>(info)) return f(std::int64_t());
  throw py::type_error(std::string("`") + name + "` must hold integers, got " + info.format);
}

// A line of labels, and how the kernels `K` load it.
template <class K>
struct Labels {
  py::buffer_info info;
  decltype(&K::template load<std::int32_t>) load;

  Labels(const char* name, const py::buffer& buffer) {
    with_labels(name, buffer.request(), [&](auto label) {
      info = array<decltype(label)>(name, buffer, 1).info;
      load = K::template load<decltype(label)>;
    });
  }
};

void confusion(const py::buffer& pred_buffer, const py::buffer& target_buffer,
               const py::buffer& counts_buffer, std::int64_t ignored, int clusters, int threads) {
  const auto out = array<std::int64_t>("counts", counts_buffer, 1, WRITE);
  const std::int64_t slots = out.size(0), pairs = slots - 3;
  need(clusters > 0 && pairs > 0 && pairs % clusters == 0 &&
           pairs <= std::numeric_limits<std::int32_t>::max() - 3,
       "`counts` must have a length of K·C + 3");
  const bool split = pairs <= FEW;
  const int classes = int(pairs / clusters), copies = split ? 4 : 1;
  std::vector<unsigned> counts;
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const Labels<K> pred("pred", pred_buffer), target("target", target_buffer);
    const std::int64_t n = pred.info.size;
    need(target.info.size == n, "`target` must be as long as `pred`");
    // So that no counter overflows, and a thread has enough to do.
    const auto parts =
        std::max<std::int64_t>(1 + (n >> 32), std::min<std::int64_t>(threads, n / LEAST));
    counts.resize(parts * copies * slots);
    share(parts, threads, 2 * K::MOST * sizeof(int), [&](std::int64_t part, char* memory) {
      int *p = reinterpret_cast<int*>(memory), *t = p + K::MOST;
      const std::int64_t until = n * (part + 1) / parts;
      for (std::int64_t from = n * part / parts; from < until; from += K::MOST) {
        const int some = int(std::min<std::int64_t>(until - from, K::MOST));
        pred.load(pred.info.ptr, from, some, -1, clusters, p);
        target.load(target.info.ptr, from, some, ignored, classes, t);
        K::count(p, t, some, clusters, classes, split, counts.data() + part * copies * slots);
      }
    });
  });
  std::fill_n(out.data(), slots, 0);
  for (std::size_t i = 0; i < counts.size(); ++i) out.data()[i % slots] += counts[i];
}

}  // namespace

void bind_confusion(py::module_& m) {
  m.def("confusion", &confusion, py::arg("pred"), py::arg("target"), py::arg("counts"),
        py::arg("ignored"), py::arg("clusters"), py::arg("threads"));
}
