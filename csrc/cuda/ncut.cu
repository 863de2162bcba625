// The sums of a soft normalised cut on a GPU: one launch, a block a tile of pixels (ncut_device.h).

#include "block.h"
//
#include "ncut_device.h"

#ifndef PLANES  // of a warp; the launcher takes as few as serve all classes at once
#define PLANES 8
#endif

// As many as registers hold.
template <class T>
constexpr int OWN = sizeof(T) == 8 && PLANES > 4 ? 4 : PLANES;

// p (B,K,H,W), colours (B,C,H,W) → filtered (B,K,H,W), degree (B,H,W), parts (B,2,K,tiles): the
// sums over each tile. `jobs`: tiles of all images, once for each OWN · WARPS planes.
template <class T>
FN void ncut(Cut<T> cut, i64 jobs, T (&weights)[2][CHUNK][PIXELS], T (&degrees)[PIXELS],
             T* filtered, T* degree, T* parts) {
  const int across = (cut.width + ACROSS - 1) / ACROSS;
  const int passes = (cut.classes - 1) / (OWN<T> * WARPS) + 1;
  const i64 tiles = i64((cut.height + DOWN - 1) / DOWN) * across;
  const i64 size = i64(cut.height) * cut.width;
  const T *p = cut.p, *colours = cut.colours;
  for (i64 job = blockIdx.x; job < jobs; job += gridDim.x) {
    const i64 tile = job % tiles, image = job / tiles / passes, plane = image * cut.classes;
    const int pass = int(job / tiles % passes);
    cut.p = p + plane * size, cut.colours = colours + image * cut.channels * size;
    cut.top = int(tile / across) * DOWN, cut.left = int(tile % across) * ACROSS;
    T* part = parts + 2 * plane * tiles + tile;
    cut_block<T, OWN<T>>(cut, pass * OWN<T> * WARPS, weights, degrees, filtered + plane * size,
                         pass ? nullptr : degree + image * size, part, part + cut.classes * tiles,
                         tiles);
  }
}

#define NCUT(T, suffix)                                                                          \
  extern "C" __global__ void __launch_bounds__(PIXELS, 24 / (4 + sizeof(T))) ncut_##suffix(      \
      const T* p, const T* colours, int classes, int channels, int height, int width, int reach, \
      int square, T color_rate, T space_rate, i64 jobs, T* filtered, T* degree, T* parts) {      \
    __shared__ T weights[2][CHUNK][PIXELS];                                                      \
    __shared__ T degrees[PIXELS];                                                                \
    const Cut<T> cut{p,     colours, classes,    channels,   height, width,                      \
                     reach, square,  color_rate, space_rate, 0,      0};                         \
    ncut(cut, jobs, weights, degrees, filtered, degree, parts);                                  \
  }

NCUT(float, float)
NCUT(double, double)
