// Bindings of csrc/filter.h and csrc/iem.h.

#define FASTSEG_KERNELS "inpaint_kernels.h"
#include "each_isa.h"

namespace {

template <class T>
std::vector<T> as(const Array<double>& table) {
  return std::vector<T>(table.data(), table.data() + table.info.size);
}

template <class Rows, class T>
Rows rows(const std::vector<T>& table, const Array<double>& shape, std::int64_t size, int radius) {
  return {table.data(), int(size), radius, int(shape.size(1))};
}

void check_table(const char* name, const Array<double>& table, std::int64_t size, int radius) {
  const std::int64_t count = std::min<std::int64_t>(size, 2 * radius + 1);
  const std::int64_t width = 2 * radius + 1 + 2 * 16;
  need(table.size(0) == count && table.size(1) >= width,
       std::string("`") + name + "` must have shape (" + std::to_string(count) + ", at least " +
           std::to_string(width) + ")");
}

template <class T>
void filter_as(const py::buffer& in, const py::buffer& out, const Array<double>& table_y,
               const Array<double>& table_x, int radius, int threads) {
  const auto from = array<T>("src", in, 3);
  const auto to = array<T>("dst", out, 3, WRITE);
  need(from.info.shape == to.info.shape, "`dst` must have the shape of `src`");
  const std::int64_t height = from.size(1), width = from.size(2);
  check_table("table_y", table_y, height, radius);
  check_table("table_x", table_x, width, radius);
  const auto y = as<T>(table_y), x = as<T>(table_x);
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    using Rows = typename K::template FilterRows<T>;
    const auto fy = rows<Rows>(y, table_y, height, radius),
               fx = rows<Rows>(x, table_x, width, radius);
    const std::int64_t plane = height * width;
    share(from.size(0), threads, plane * sizeof(T), [&](std::int64_t i, char* memory) {
      K::filter(from.data() + i * plane, to.data() + i * plane, reinterpret_cast<T*>(memory), fy,
                fx);
    });
  });
}

void gaussian_filter(const py::buffer& src, const py::buffer& dst, const py::buffer& table_y,
                     const py::buffer& table_x, int radius, int threads) {
  const auto y = array<double>("table_y", table_y, 2), x = array<double>("table_x", table_x, 2);
  if (holds<double>(src.request())) filter_as<double>(src, dst, y, x, radius, threads);
  else filter_as<float>(src, dst, y, x, radius, threads);
}

template <class Pixel>
void iem_as(const py::buffer& images_buffer, const py::buffer& init_buffer,
            const py::buffer& masks_buffer, const py::buffer& error_buffer,
            const py::buffer& steps_buffer, const py::buffer& status_buffer,
            const py::buffer& table_y_buffer, const py::buffer& table_x_buffer, int radius,
            int least, double scale, int iterations, double lamb, int smoothing, bool boundary_only,
            int threads) {
  const auto images = array<Pixel>("images", images_buffer, 4, READ_STRIDED);
  const auto init = array<std::uint8_t>("init", init_buffer, 4, READ_STRIDED);
  const auto masks = array<std::uint8_t>("masks", masks_buffer, 4, WRITE);
  const auto error = array<float>("error", error_buffer, 1, WRITE);
  const auto steps = array<std::int32_t>("steps", steps_buffer, 1, WRITE);
  const auto status = array<std::int32_t>("status", status_buffer, 1, WRITE);
  const auto table_y = array<double>("table_y", table_y_buffer, 2);
  const auto table_x = array<double>("table_x", table_x_buffer, 2);
  const std::int64_t batch = images.size(0), channels = images.size(1);
  const std::int64_t height = images.size(2), width = images.size(3), starts = init.size(1);
  need(channels > 0 && height > 0 && width > 0, "`images` must not be empty");
  need(starts > 0 && init.size(0) == batch && init.size(2) == height && init.size(3) == width,
       "`init` must have shape (B, S, H, W) with the B, H and W of `images`");
  need(masks.size(0) == batch && masks.size(1) == 1 && masks.size(2) == height &&
           masks.size(3) == width,
       "`masks` must have shape (B, 1, H, W)");
  need(error.size(0) == batch && steps.size(0) == batch && status.size(0) == batch,
       "`error`, `steps` and `status` must have shape (B)");
  check_table("table_y", table_y, height, radius);
  check_table("table_x", table_x, width, radius);
  const auto fy = as<float>(table_y), fx = as<float>(table_x);
  const std::int64_t words = (width + 63) / 64, runs = batch * starts;
  std::vector<unsigned long long> bits(runs * height * words);
  std::vector<double> errors(runs);
  std::vector<int> run_steps(runs), run_status(runs);
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    using Rows = typename K::template FilterRows<float>;
    const typename K::IemProblem problem{int(channels),
                                         int(height),
                                         int(width),
                                         iterations,
                                         smoothing,
                                         boundary_only,
                                         least,
                                         lamb,
                                         rows<Rows>(fy, table_y, height, radius),
                                         rows<Rows>(fx, table_x, width, radius)};
    share(runs, threads, K::iem_workspace(problem), [&](std::int64_t run, char* memory) {
      const std::int64_t b = run / starts, s = run % starts;
      const long long image_stride[] = {images.stride[1], images.stride[2], images.stride[3]};
      const long long init_stride[] = {init.stride[2], init.stride[3]};
      K::iem(problem, images.data() + b * images.stride[0], image_stride, scale,
             init.data() + b * init.stride[0] + s * init.stride[1], init_stride, memory,
             bits.data() + run * height * words, &errors[run], &run_steps[run], &run_status[run]);
    });
  });

  for (std::int64_t b = 0; b < batch; ++b) {
    std::int64_t best = b * starts;
    for (std::int64_t run = best + 1; run < (b + 1) * starts; ++run)
      if (errors[run] > errors[best]) best = run;
    error.data()[b] = float(errors[best]);
    steps.data()[b] = run_steps[best];
    status.data()[b] = run_status[best];
    std::uint8_t* mask = masks.data() + b * height * width;
    for (std::int64_t y = 0; y < height; ++y)
      for (std::int64_t x = 0; x < width; ++x)
        *mask++ = bits[(best * height + y) * words + x / 64] >> (x % 64) & 1;
  }
}

void iem(const py::buffer& images, const py::buffer& init, const py::buffer& masks,
         const py::buffer& error, const py::buffer& steps, const py::buffer& status,
         const py::buffer& table_y, const py::buffer& table_x, int radius, int least, double scale,
         int iterations, double lamb, int smoothing, bool boundary_only, int threads) {
  const auto run = holds<std::uint8_t>(images.request()) ? iem_as<std::uint8_t> : iem_as<float>;
  run(images, init, masks, error, steps, status, table_y, table_x, radius, least, scale, iterations,
      lamb, smoothing, boundary_only, threads);
}

}  // namespace

void bind_inpaint(py::module_& m) {
  m.def("gaussian_filter", &gaussian_filter, py::arg("src"), py::arg("dst"), py::arg("table_y"),
        py::arg("table_x"), py::arg("radius"), py::arg("threads"));
  m.def("iem", &iem, py::arg("images"), py::arg("init"), py::arg("masks"), py::arg("error"),
        py::arg("steps"), py::arg("status"), py::arg("table_y"), py::arg("table_x"),
        py::arg("radius"), py::arg("least"), py::arg("scale"), py::arg("iterations"),
        py::arg("lamb"), py::arg("smoothing"), py::arg("boundary_only"), py::arg("threads"));
}
