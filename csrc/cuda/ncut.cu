// The sums of a soft normalised cut on a GPU: one launch, a block a part of a strip of an image
// (ncut_device.h).

#ifndef PLANES  // the launcher's
#define PLANES 4
#define GROUPS 4
#define CHANNELS 3
#define SQUARE 25
#endif

#include "block.h"
#include "four.h"
//
#include "ncut_device.h"

// p (B,K,H,W), colours (B,C,rows,pitch) → filtered (B,K,H,W), degree (B,H,W), parts
// (2,B,blocks·CREWS,K): the sums of each crew. `jobs`: blocks of all images, once for each OWN
// planes.
template <class T>
FN void ncut(Cut<T> cut, i64 jobs, Room<T>& room, T* filtered, T* degree, T* parts) {
  const int across = (cut.width - 1) / Shape<T>::ACROSS + 1, down = (cut.height - 1) / DOWN + 1;
  const int passes = (cut.classes - 1) / Shape<T>::OWN + 1;
  const i64 blocks = i64(across) * down, size = i64(cut.height) * cut.width;
  const i64 padded = i64(cut.height + 2 * cut.margin) * cut.pitch;
  const T *p = cut.p, *colours = cut.colours;
  for (i64 job = blockIdx.x; job < jobs; job += gridDim.x) {
    const i64 block = job % blocks, image = job / blocks / passes, plane = image * cut.classes;
    cut.p = p + plane * size, cut.colours = colours + image * CHANNELS * padded;
    cut.top = int(block / across) * DOWN, cut.left = int(block % across) * Shape<T>::ACROSS;
    cut.bottom = cut.top + DOWN < cut.height ? cut.top + DOWN : cut.height;
    cut.first = int(job / blocks % passes) * Shape<T>::OWN;
    T* part = parts + ((image * blocks + block) * CREWS + cut.warp % CREWS) * cut.classes;
    cut_block(cut, room, filtered + plane * size, degree + image * size, part,
              part + jobs / passes * CREWS * cut.classes);
  }
}

#define NCUT(T, suffix)                                                                            \
  extern "C" __global__ void __launch_bounds__(Shape<T>::THREADS, sizeof(T) == 8 ? 1 : 4 / GROUPS) \
      ncut_##suffix(const T* p, const T* colours, int classes, int height, int width, int pitch,   \
                    int margin, int reach, int square, int whole, T color_rate, T space_rate,      \
                    i64 jobs, T* filtered, T* degree, T* parts) {                                  \
    __shared__ Room<T> room;                                                                       \
    Cut<T> cut{p,      colours, classes, height,     width,      pitch,                            \
               margin, reach,   square,  whole != 0, color_rate, space_rate};                      \
    cut.warp = __shfl_sync(0xffffffffu, int(threadIdx.x) / 32, 0); /* the same in all its lanes */ \
    ncut(cut, jobs, room, filtered, degree, parts);                                                \
  }

NCUT(float, float)
NCUT(double, double)
