// The kernels of region.cpp for one instruction set; included inside its namespace (each_isa.h).

#include "block.h"
//
#include "transpose.h"
//
#include "region_vectors.h"
//
#include "region.h"

// What region.cpp sees of them.
struct Kernels {
  using RegionRun = Run;
  struct RegionRuns {
    const Run* first;
    int count;
  };

  static constexpr int PLANES = 4;  // at once: their partial results share the first-level cache

  // The regions of one image, and a share of its channels.
  template <class T>
  struct Job {
    i64 size, channels, from, to;
    int regions;
    bool rows;  // x[HW][C], else x[C][HW]

    // Planes smaller than a vector are copied into one.
    i64 padded() const { return size < WIDE<T> ? WIDE<T> : size; }
    i64 memory() const {
      const i64 best = sizeof(Bests<T>), pad = PLANES * i64(sizeof(Vec<T>));
      return rows ? regions * (to - from) * sizeof(Whole<T>) : regions * best * PLANES + pad;
    }
  };

  template <class T>
  static void sum(const Job<T>& job, RegionRuns runs, const T* x, char* memory, T* out) {
    if (job.rows)
      return sum_rows(x, job.channels, job.from, job.to, runs.first, runs.count, job.regions, out);
    each_planes(job, x, memory, [&](auto planes, const T* from, char* rest, i64 c) {
      sum_planes<planes.COUNT>(from, job.padded(), runs.first, runs.count, job.regions, rest,
                               out + c, job.channels);
    });
  }

  template <class T>
  static void max(const Job<T>& job, RegionRuns runs, const T* x, const int* pixels, char* memory,
                  T* out, int* argmax) {
    if (job.rows)
      return max_rows(x, job.channels, job.from, job.to, runs.first, runs.count, job.regions,
                      pixels, memory, out, argmax);
    each_planes(job, x, memory, [&](auto planes, const T* from, char* rest, i64 c) {
      max_planes<planes.COUNT>(from, job.padded(), runs.first, runs.count, job.regions, pixels,
                               rest, out + c, argmax + c, job.channels);
    });
  }

  template <class T>
  static void unpool(const Job<T>& job, RegionRuns runs, const T* z, T* out) {
    if (job.rows)
      return unpool_rows(z, job.channels, job.from, job.to, job.size, runs.first, runs.count, out);
    for (i64 c = job.from; c < job.to; ++c)
      unpool_plane(z + c, job.channels, job.size, runs.first, runs.count, out + c * job.size);
  }

  template <class T>
  static void scatter(const Job<T>& job, const T* z, const int* at, T* out) {
    if (job.rows)
      return scatter_rows(z, at, job.channels, job.from, job.to, job.size, job.regions, out);
    for (i64 c = job.from; c < job.to; ++c)
      scatter_plane(z + c, at + c, job.channels, job.size, job.regions, out + c * job.size);
  }

 private:
  template <int N>
  struct Count {
    static constexpr int COUNT = N;
  };

  // f(how many planes, the first, memory, its channel)
  template <class T, class F>
  static void each_planes(const Job<T>& job, const T* x, char* memory, F f) {
    T* pad = reinterpret_cast<T*>(memory);
    char* rest = memory + PLANES * sizeof(Vec<T>);
    auto run = [&](auto planes, i64 c) {
      const T* from = x + c * job.size;
      if (job.size < WIDE<T>) {
        for (int k = 0; k < planes.COUNT; ++k)
          for (int i = 0; i < WIDE<T>; ++i)
            pad[k * WIDE<T> + i] = i < job.size ? from[k * job.size + i] : 0;
        from = pad;
      }
      f(planes, from, rest, c);
    };
    i64 c = job.from;
    for (; c + PLANES <= job.to; c += PLANES) run(Count<PLANES>{}, c);
    for (; c < job.to; ++c) run(Count<1>{}, c);
  }
};
