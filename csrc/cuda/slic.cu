// SLIC superpixels on a GPU: the colours (csrc/slic_device_load.h), then the clustering
// (csrc/slic_device.h) and the connectivity (csrc/slic_device_connect.h) step by step.

#include "block.h"
//
#include "slic_device.h"
//
#include "slic_device_connect.h"
//
#include "slic_device_load.h"

#define LOAD(Pixel, suffix)                                                                    \
  extern "C" __global__ void slic_load_##suffix(                                               \
      const Pixel* images, i64 stride_b, i64 stride_c, i64 stride_y, i64 stride_x,             \
      const float* low, const float* range, int lab, float scale, int batch, int channels,     \
      int height, int width, float* out) {                                                     \
    const i64 stride[] = {stride_b, stride_c, stride_y, stride_x};                             \
    load_colours(images, stride, low, range, lab, scale, batch, channels, height, width, out); \
  }

LOAD(unsigned char, uint8)
LOAD(float, float)

// Rounds of k-means, of by position and of by colour: a step to clear, two a round.
template <int C>
FN void cluster(const Slic& s, const Team& team, int step) {
  const int each = 1 + 2 * s.iterations, at = step % each - 1;
  const bool by_colour = step >= each || !s.seek;
  const int round = at / 2;
  if (at < 0) {
    if (step == 0) seed(s, team);
    clear(s, team);
  } else if (at % 2 == 0) {
    assign<C>(s, team, by_colour, s.boxes_of(round));
  } else {
    update(s, team, s.boxes_of(round), s.boxes_of(round + 1));
  }
}

// The steps [from, to) of B images with `blocks` blocks each: with one, all steps in one launch.
// Memory of each image: features (K,3+C) float, boxes (3,K,4), work (6,HW), counts (chunks + 3).
// Seeds, weight, reach (2) and sizes (2) come once an image, or once if `shared`.
#define SLIC(C, suffix)                                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS, 2) slic_##suffix(                      \
      const float* colours, int channels, int height, int width, const float* seeds,           \
      const float* weight, const int* reach, const int* sizes, int shared, int centres,        \
      int iterations, int zero, int seek, int connect, int start, float* features, int* boxes, \
      int* work, int* counts, int chunks, int* labels, int blocks, int from, int to) {         \
    __shared__ Slic s;                                                                         \
    const i64 image = blockIdx.x / blocks, size = i64(height) * width, k = centres;            \
    const Team team{{nullptr}, int(blockIdx.x % blocks), blocks};                              \
    if (threadIdx.x == 0) {                                                                    \
      const i64 same = shared ? 0 : image;                                                     \
      s.channels = channels, s.height = height, s.width = width, s.centres = centres;          \
      s.iterations = iterations, s.zero = zero, s.seek = seek, s.start = start;                \
      s.least = sizes[2 * same], s.most = sizes[2 * same + 1];                                 \
      s.reach_y = reach[2 * same], s.reach_x = reach[2 * same + 1], s.weight = weight[same];   \
      s.seeds = seeds + same * k * 2;                                                          \
      s.colours = colours + image * channels * size;                                           \
      s.features = features + image * k * (3 + channels);                                      \
      s.farthest = s.features + k * (2 + channels);                                            \
      s.windows = reinterpret_cast<Box*>(boxes) + image * 3 * k;                               \
      s.boxes = s.windows + k;                                                                 \
      s.labels = labels + image * size;                                                        \
      s.work = work + image * 6 * size;                                                        \
      s.counts = counts + image * (chunks + 3);                                                \
      s.queued = s.counts + chunks;                                                            \
    }                                                                                          \
    team.block.sync();                                                                         \
    const int rounds = (seek ? 2 : 1) * (1 + 2 * iterations);                                  \
    for (int step = from; step < to; ++step) {                                                 \
      if (step < rounds) cluster<C>(s, team, step);                                            \
      else if (connect) Connect(s, team).step(step - rounds);                                  \
      else team.each(size, [&](int p) { s.labels[p] += start; });                              \
      team.block.sync();                                                                       \
    }                                                                                          \
  }

SLIC(3, rgb)
SLIC(0, any)
