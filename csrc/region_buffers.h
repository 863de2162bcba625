// The buffers that the operators on regions share.

#pragma once

#include "native.h"

// Work that pays for a thread of its own.
constexpr std::int64_t LEAST_VALUES = 1 << 15;

inline int crew(std::int64_t values, int threads) {
  return int(std::min<std::int64_t>(threads, 1 + values / LEAST_VALUES));
}

// Pixels x (B,C,HW), or (B,HW,C) with channels last, and regions z (B,R,C).
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

  T* image(std::int64_t b) const { return x.data() + b * size * channels; }
  T* vectors(std::int64_t b) const { return z.data() + b * regions * channels; }
  std::int32_t* places(const Array<std::int32_t>& at, std::int64_t b) const {
    return at.data() + b * regions * channels;
  }
};
