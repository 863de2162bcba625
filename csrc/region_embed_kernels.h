// The kernels of region_embed.cpp for one instruction set; included inside its namespace
// (each_isa.h).

#include "block.h"
//
#include "transpose.h"
//
#include "region_vectors.h"
//
#include "region_spp.h"
//
#include "region_resize.h"

// What region_embed.cpp sees of them.
struct Kernels {
  template <class T>
  using SppProblem = Spp<T>;
  using ResizeProblem = Resize;
  template <class T>
  static constexpr int WIDTH = FULL<T>;

  template <class T>
  static i64 memory(i64 size, const Spp<T>& spp, T) {
    return spp_room(spp) + copy_room<T>(size, spp.width);
  }
  template <class T>
  static i64 memory(i64 size, const Resize& job, T) {
    return resize_room<T>(job) + copy_room<T>(size, job.width);
  }

  // The channels [from, to) of one image; argmax may be null.
  template <class T>
  static void spp(const Spp<T>& spp, const T* x, i64 size, i64 channels, i64 from, i64 to,
                  bool rows, char* memory, T* out, int* argmax) {
    constexpr int N = FULL<T>;
    auto places = [&](i64 c) { return argmax ? argmax + c : nullptr; };
    i64 c = from;
    for (; !rows && c < to; c += N) {
      const int count = int(to - c < N ? to - c : N);
      auto own = spp;
      const Copy<T> copy(size, own.width, own.labels, memory + spp_room(spp));
      spp_planes<N>(own, copy.take_planes(x + c * size, count), copy.step, count, channels, memory,
                    out + c, places(c));
    }
    for (; c + 4 * N <= to; c += 4 * N)
      spp_rows<4, N>(spp, x + c, channels, memory, out + c, places(c));
    for (; c + N <= to; c += N) spp_rows<1, N>(spp, x + c, channels, memory, out + c, places(c));
    for (; c < to; ++c) spp_rows<1, 1>(spp, x + c, channels, memory, out + c, places(c));
  }

  template <class T>
  static void resize(const Resize& job, const T* x, i64 size, i64 channels, i64 from, i64 to,
                     bool rows, char* memory, T* out) {
    constexpr int N = FULL<T>;
    i64 c = from;
    for (; !rows && c < to; c += N) {
      const int count = int(to - c < N ? to - c : N);
      auto own = job;
      const Copy<T> copy(size, own.width, own.labels, memory + resize_room<T>(job));
      resize_planes<N>(own, copy.take_planes(x + c * size, count), copy.step, count, channels,
                       memory, out + c * job.size());
    }
    for (; c + N <= to; c += N) resize_rows<N>(job, x + c, channels, memory, out + c * job.size());
    for (; c < to; ++c) resize_rows<1>(job, x + c, channels, memory, out + c * job.size());
  }

  // The adjoint of `resize`.
  template <class T>
  static void spread(const Resize& job, const T* z, i64 size, i64 channels, i64 from, i64 to,
                     bool rows, char* memory, T* x) {
    constexpr int N = FULL<T>;
    i64 c = from;
    for (; !rows && c < to; c += N) {
      const int count = int(to - c < N ? to - c : N);
      auto own = job;
      const Copy<T> copy(size, own.width, own.labels, memory + resize_room<T>(job));
      T* planes = copy.planes ? copy.planes : x + c * size;
      spread_planes<N>(own, z + c * job.size(), channels, copy.step, count, memory, planes);
      if (copy.planes) copy.put_planes(x + c * size, count);
    }
    for (; c + N <= to; c += N)
      spread_rows<N>(job, z + c * job.size(), channels, size, memory, x + c);
    for (; c < to; ++c) spread_rows<1>(job, z + c * job.size(), channels, size, memory, x + c);
  }

 private:
  // A copy of planes and labels: of images narrower than a vector, with room behind them to read
  // one from any pixel on; of small ones, since planes that lie a power of two apart would push one
  // another out of the caches.
  template <class T>
  struct Copy {
    i64 size, step;  // of a plane, and to the next
    T* planes = nullptr;

    static bool pays(i64 size, i64 width) { return width < FULL<T> || size * 4 * LANES <= 4 << 20; }

    Copy(i64 size, i64 width, const int*& labels, char* memory) : size(size), step(size) {
      if (!pays(size, width)) return;
      step += FULL<T>;
      planes = reinterpret_cast<T*>(memory);
      int* copy = reinterpret_cast<int*>(planes + FULL<T> * step);
      for (i64 p = 0; p < step; ++p) copy[p] = p < size ? labels[p] : -1;
      labels = copy;
    }

    const T* take_planes(const T* x, int count) const {
      if (!planes) return x;
      for (int k = 0; k < count; ++k) {
        __builtin_memcpy(planes + k * step, x + k * size, size * sizeof(T));
        for (i64 p = size; p < step; ++p) planes[k * step + p] = 0;
      }
      return planes;
    }

    void put_planes(T* x, int count) const {
      for (int k = 0; k < count; ++k)
        __builtin_memcpy(x + k * size, planes + k * step, size * sizeof(T));
    }
  };

  template <class T>
  static i64 copy_room(i64 size, i64 width) {
    const bool pays = Copy<T>::pays(size, width);
    return pays ? (size + FULL<T>)*i64(FULL<T> * sizeof(T) + sizeof(int)) : 0;
  }
  template <class T>
  static i64 spp_room(const Spp<T>& spp) {
    return spp.bins * 4 * i64(sizeof(Bin<FULL<T>, T>));
  }
  template <class T>
  static i64 resize_room(const Resize& job) {
    return (Room<FULL<T>, T>::bytes(job) + 63) / 64 * 64;
  }
};
