// Bindings of csrc/ncut.h.

#include <cmath>
#include <limits>

#define FASTSEG_KERNELS "ncut_kernels.h"
#include "each_isa.h"

namespace {

constexpr double LOG2E = 1.442695040888963407360;

template <class T>
T finite(double value) {
  return T(std::min(value, double(std::numeric_limits<T>::max())));
}

// The offsets (dy, dx) shorter than `radius`, at most `reach` along an axis, by rows.
template <class Offset, class T>
std::vector<Offset> disc_of(int radius, int reach, double rate) {
  std::vector<Offset> offsets;
  for (std::int64_t dy = -reach; dy <= reach; ++dy)
    for (std::int64_t dx = -reach; dx <= reach; ++dx)
      if (const std::int64_t square = dy * dy + dx * dx; square < std::int64_t(radius) * radius)
        offsets.push_back({int(dy), int(dx), square ? -finite<T>(rate * LOG2E * square) : T(0)});
  return offsets;
}

template <class T>
void ncut_as(const py::buffer& p_buffer, const py::buffer& colours_buffer,
             const py::buffer& filtered_buffer, const py::buffer& degree_buffer,
             const py::buffer& totals_buffer, int radius, double color_rate, double space_rate,
             int threads) {
  const auto p = array<T>("p", p_buffer, 4);
  const auto colours = array<T>("colours", colours_buffer, 4);
  const auto filtered = array<T>("filtered", filtered_buffer, 4, WRITE);
  const auto degree = array<T>("degree", degree_buffer, 3, WRITE);
  const auto totals = array<double>("totals", totals_buffer, 3, WRITE);
  const std::int64_t batch = p.size(0), classes = p.size(1), height = p.size(2), width = p.size(3);
  const std::int64_t channels = colours.size(1), plane = height * width;
  need(p.info.size > 0 && channels > 0, "`p` and `colours` must not be empty");
  need(colours.size(0) == batch && colours.size(2) == height && colours.size(3) == width,
       "`colours` must have the B, H and W of `p`");
  need(filtered.info.shape == p.info.shape, "`filtered` must have the shape of `p`");
  need(degree.size(0) == batch && degree.size(1) == height && degree.size(2) == width,
       "`degree` must have shape (B, H, W)");
  need(totals.size(0) == batch && totals.size(1) == 2 && totals.size(2) == classes,
       "`totals` must have shape (B, 2, K)");
  need(radius > 0, "`radius` must be at least 1");
  hint_large(filtered.data(), filtered.info.size * std::int64_t(sizeof(T)));
  const int reach = int(std::min<std::int64_t>(radius, std::max(height, width))) - 1;
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    using Disc = typename K::template DiscOf<T>;
    const auto offsets = disc_of<typename K::template OffsetOf<T>, T>(radius, reach, space_rate);
    const Disc disc{
        int(classes), int(channels),  int(height),         int(width),
        reach,        offsets.data(), int(offsets.size()), finite<T>(color_rate * LOG2E)};
    const std::int64_t tiles = std::int64_t(disc.tiles_x()) * disc.tiles_y();
    std::vector<double> parts(batch * tiles * 2 * classes);
    share(batch * tiles, threads, K::workspace(disc), [&](std::int64_t task, char* memory) {
      const std::int64_t b = task / tiles;
      K::tile(disc, p.data() + b * classes * plane, colours.data() + b * channels * plane,
              int(task % tiles), memory, filtered.data() + b * classes * plane,
              degree.data() + b * plane, parts.data() + task * 2 * classes);
    });
    std::fill_n(totals.data(), totals.info.size, 0.0);
    for (std::int64_t task = 0; task < batch * tiles; ++task)
      for (std::int64_t i = 0; i < 2 * classes; ++i)
        totals.data()[task / tiles * 2 * classes + i] += parts[task * 2 * classes + i];
  });
}

void ncut_sums(const py::buffer& p, const py::buffer& colours, const py::buffer& filtered,
               const py::buffer& degree, const py::buffer& totals, int radius, double color_rate,
               double space_rate, int threads) {
  const auto run = holds<float>(p.request()) ? ncut_as<float> : ncut_as<double>;
  run(p, colours, filtered, degree, totals, radius, color_rate, space_rate, threads);
}

}  // namespace

void bind_ncut(py::module_& m) {
  m.def("ncut_sums", &ncut_sums, py::arg("p"), py::arg("colours"), py::arg("filtered"),
        py::arg("degree"), py::arg("totals"), py::arg("radius"), py::arg("color_rate"),
        py::arg("space_rate"), py::arg("threads"));
}
