// fastseg._native: buffers in, preallocated buffers out. The interpreter's lock is released, work
// is shared among threads by image or plane, and nothing of torch or NumPy is linked.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define FASTSEG_X86 1
#include <immintrin.h>
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // wide vectors only pass between inlined functions

#if FASTSEG_X86
#define FASTSEG_LANES 4
#pragma GCC push_options
#pragma GCC target("sse4.2,popcnt")
namespace v2 {
#include "kernels.h"
}
#pragma GCC pop_options
#undef FASTSEG_LANES
#undef FN
#undef BODY

#define FASTSEG_LANES 8
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,lzcnt,movbe,popcnt")
namespace v3 {
#include "kernels.h"
}
#pragma GCC pop_options
#undef FASTSEG_LANES
#undef FN
#undef BODY

#define FASTSEG_LANES 16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi,bmi2,lzcnt,popcnt")
namespace v4 {
#include "kernels.h"
}
#pragma GCC pop_options
#else
#define FASTSEG_LANES 4
namespace generic {
#include "kernels.h"
}
#endif
#pragma GCC diagnostic pop

namespace py = pybind11;

namespace {

// --- instruction sets ---------------------------------------------------------------------------

struct Isa {
  const char* name;
  bool (*runs)();
};

#if FASTSEG_X86
const Isa ISAS[] = {
    {"x86-64-v4",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
     }},
    {"x86-64-v3",
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
     }},
    {"x86-64-v2",
     [] { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }},
};
#else
const Isa ISAS[] = {{"generic", [] { return true; }}};
#endif

int chosen_isa = -1;  // the first of ISAS that runs here, or the one `set_isa` named

// f(kernels of the chosen instruction set)
template <class F>
void with_kernels(F f) {
#if FASTSEG_X86
  if (chosen_isa == 0) return f(v4::Kernels{});
  if (chosen_isa == 1) return f(v3::Kernels{});
  return f(v2::Kernels{});
#else
  return f(generic::Kernels{});
#endif
}

const char* isa() { return ISAS[chosen_isa].name; }

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa& set : ISAS)
    if (set.runs()) names.push_back(set.name);
  return names;
}

void set_isa(const std::string& name) {
  int i = 0;
  for (const Isa& set : ISAS) {
    if (set.name == name && set.runs()) {
      chosen_isa = i;
      return;
    }
    ++i;
  }
  throw std::invalid_argument("this machine does not run the instruction set '" + name + "'");
}

// --- buffers ------------------------------------------------------------------------------------

template <class T>
struct Formats;
template <>
struct Formats<float> {
  static constexpr const char* codes = "f";
};
template <>
struct Formats<double> {
  static constexpr const char* codes = "d";
};
template <>
struct Formats<std::uint8_t> {
  static constexpr const char* codes = "B?";
};
template <>
struct Formats<std::int32_t> {
  static constexpr const char* codes = "il";
};

// A buffer of T; strides count elements.
template <class T>
struct Array {
  py::buffer_info info;
  std::vector<std::int64_t> stride;

  T* data() const { return static_cast<T*>(info.ptr); }
  std::int64_t size(int axis) const { return info.shape[axis]; }
};

template <class T>
bool holds(const py::buffer_info& info) {
  const char code = info.format.empty() ? 0 : info.format.back();
  return info.itemsize == sizeof(T) &&
         std::string(Formats<T>::codes).find(code) != std::string::npos;
}

enum Use { READ_STRIDED, READ, WRITE };  // the latter two need a contiguous buffer

template <class T>
Array<T> array(const char* name, const py::buffer& buffer, int ndim, Use use = READ) {
  Array<T> a{buffer.request(use == WRITE), {}};
  const std::string prefix = std::string("`") + name + "` must ";
  if (!holds<T>(a.info))
    throw py::type_error(prefix + "have format " + Formats<T>::codes[0] + ", got " + a.info.format);
  if (a.info.ndim != ndim)
    throw std::invalid_argument(prefix + "have " + std::to_string(ndim) + " dimensions, got " +
                                std::to_string(a.info.ndim));
  std::int64_t dense = sizeof(T);
  bool contiguous = true;
  for (int i = ndim - 1; i >= 0; --i) {
    contiguous &= a.info.shape[i] == 1 || a.info.strides[i] == dense;
    dense *= a.info.shape[i];
    if (a.info.strides[i] % std::int64_t(sizeof(T)))
      throw std::invalid_argument(prefix + "have strides of whole elements");
    a.stride.insert(a.stride.begin(), a.info.strides[i] / std::int64_t(sizeof(T)));
  }
  if (use != READ_STRIDED && !contiguous) throw std::invalid_argument(prefix + "be contiguous");
  return a;
}

void need(bool good, const std::string& message) {
  if (!good) throw std::invalid_argument(message);
}

// --- threads ------------------------------------------------------------------------------------

struct Freed {
  void operator()(char* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Freed>;

Memory allocate(std::int64_t bytes) {
  // Rows of a large image lie pages apart; huge pages spare the table walks.
  const std::int64_t page = bytes < (4 << 20) ? 4096 : 2 << 20;
  const std::int64_t size = (bytes + page) / page * page;
  void* memory = std::aligned_alloc(page, size);
  if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (page > 4096) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return Memory(static_cast<char*>(memory));
}

// work(task, memory) for every task, each thread with its own `bytes` of memory. The calling
// thread works too and looks for a pending signal between tasks. Called with the lock held.
void share(std::int64_t tasks, int threads, std::int64_t bytes,
           const std::function<void(std::int64_t, char*)>& work) {
  const int count = int(std::max<std::int64_t>(1, std::min<std::int64_t>(threads, tasks)));
  std::vector<Memory> memory;
  for (int i = 0; i < count; ++i) memory.push_back(allocate(bytes));
  std::atomic<std::int64_t> next{0};
  bool interrupted = false;
  {
    py::gil_scoped_release release;
    std::vector<std::thread> crew;
    for (int i = 1; i < count; ++i)
      crew.emplace_back([&, i] {
        for (std::int64_t task; (task = next++) < tasks;) work(task, memory[i].get());
      });
    for (std::int64_t task; (task = next++) < tasks;) {
      work(task, memory[0].get());
      py::gil_scoped_acquire acquire;
      interrupted = PyErr_CheckSignals() != 0;
      if (interrupted) next = tasks;
    }
    for (std::thread& member : crew) member.join();
  }
  if (interrupted) throw py::error_already_set();
}

// --- operators ----------------------------------------------------------------------------------

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

PYBIND11_MODULE(_native, m) {
  for (const Isa& set : ISAS) {
    ++chosen_isa;
    if (set.runs()) break;
    if (&set == ISAS + std::size(ISAS) - 1)
      throw py::import_error("fastseg._native needs a CPU of at least x86-64-v2");
  }
  m.doc() = "CPU kernels on buffers. Private: call fastseg's public functions.";
  m.def("isa", &isa, "The instruction set in use.");
  m.def("isas", &isas, "The instruction sets that this machine runs.");
  m.def("set_isa", &set_isa, "Use this instruction set from now on.", py::arg("name"));
  m.def("gaussian_filter", &gaussian_filter, py::arg("src"), py::arg("dst"), py::arg("table_y"),
        py::arg("table_x"), py::arg("radius"), py::arg("threads"));
  m.def("iem", &iem, py::arg("images"), py::arg("init"), py::arg("masks"), py::arg("error"),
        py::arg("steps"), py::arg("status"), py::arg("table_y"), py::arg("table_x"),
        py::arg("radius"), py::arg("least"), py::arg("scale"), py::arg("iterations"),
        py::arg("lamb"), py::arg("smoothing"), py::arg("boundary_only"), py::arg("threads"));
}
