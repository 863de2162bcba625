// What every family of fastseg._native is made of: buffers in, preallocated buffers out, and work
// shared among threads by image or plane with the interpreter's lock released.

#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

// Instruction sets by pragma, which clang does not know. FASTSEG_GENERIC builds what any other
// processor or compiler gets.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(FASTSEG_GENERIC)
#define FASTSEG_X86 1
#endif

namespace py = pybind11;

extern int chosen_isa;  // index of the instruction set in use (native.cpp)

void bind_attention(py::module_& m);
void bind_confusion(py::module_& m);
void bind_inpaint(py::module_& m);
void bind_joint(py::module_& m);
void bind_masked_conv(py::module_& m);
void bind_ncut(py::module_& m);
void bind_region(py::module_& m);
void bind_region_embed(py::module_& m);
void bind_region_index(py::module_& m);
void bind_slic(py::module_& m);

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
struct Formats<std::int16_t> {
  static constexpr const char* codes = "h";
};
template <>
struct Formats<std::int32_t> {
  static constexpr const char* codes = "il";
};
template <>
struct Formats<std::int64_t> {
  static constexpr const char* codes = "lq";
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

enum Use { READ_STRIDED, READ, WRITE, WRITE_STRIDED };  // contiguous, unless strided

template <class T>
Array<T> array(const char* name, const py::buffer& buffer, int ndim, Use use = READ) {
  Array<T> a{buffer.request(use >= WRITE), {}};
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
  if ((use == READ || use == WRITE) && !contiguous)
    throw std::invalid_argument(prefix + "be contiguous");
  return a;
}

inline void need(bool good, const std::string& message) {
  if (!good) throw std::invalid_argument(message);
}

// --- threads ------------------------------------------------------------------------------------

struct Freed {
  void operator()(char* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Freed>;

inline Memory allocate(std::int64_t bytes) {
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

// Fresh memory of a large result comes in huge pages: by small ones, the system takes longer to
// hand it out than a kernel to fill it.
inline void hint_large(void* memory, std::int64_t bytes) {
#ifdef MADV_HUGEPAGE
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(memory) + 4095) / 4096 * 4096;
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / 4096 * 4096;
  if (bytes >= 4 << 20) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// GOMP_parallel of the OpenMP that PyTorch has loaded, or null. Its threads are there already, and
// after PyTorch's own work they spin for a while on the processors that others would run on.
using RunTeam = void (*)(void (*)(void*), void*, unsigned, unsigned);
inline RunTeam team_runner() {
#ifdef __linux__
  static const RunTeam found = reinterpret_cast<RunTeam>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  static const pid_t born = getpid();
  if (getpid() == born) return found;  // a forked process has no threads of its parent's
#endif
  return nullptr;
}

// member() on `count` threads, the calling one among them.
inline void run_team(int count, const std::function<void()>& member) {
  if (count == 1) return member();
  if (const RunTeam run = team_runner())
    return run([](void* data) { (*static_cast<const std::function<void()>*>(data))(); },
               const_cast<std::function<void()>*>(&member), unsigned(count), 0);
  std::vector<std::thread> crew;
  for (int i = 1; i < count; ++i) crew.emplace_back(member);
  member();
  for (std::thread& each : crew) each.join();
}

// work(task, memory) for every task, each thread with its own `bytes` of memory. The calling
// thread works too and looks for a pending signal between tasks. Called with the lock held.
inline void share(std::int64_t tasks, int threads, std::int64_t bytes,
                  const std::function<void(std::int64_t, char*)>& work) {
  const int count = int(std::max<std::int64_t>(1, std::min<std::int64_t>(threads, tasks)));
  std::vector<Memory> memory;
  for (int i = 0; i < count; ++i) memory.push_back(allocate(bytes));
  std::atomic<std::int64_t> next{0};
  std::atomic<int> members{0};
  const auto caller = std::this_thread::get_id();
  bool interrupted = false;
  {
    py::gil_scoped_release release;
    run_team(count, [&] {
      char* const own = memory[members++].get();
      const bool calling = std::this_thread::get_id() == caller;
      for (std::int64_t task; (task = next++) < tasks;) {
        work(task, own);
        if (!calling) continue;
        py::gil_scoped_acquire acquire;
        interrupted = PyErr_CheckSignals() != 0;
        if (interrupted) next = tasks;
      }
    });
  }
  if (interrupted) throw py::error_already_set();
}
