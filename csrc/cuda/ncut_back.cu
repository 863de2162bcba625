// The gradient of the sums of a soft normalised cut: what was kept of them is read once.

#include "block.h"

constexpr int THREADS = 256, PLANES = 8;  // of a block
constexpr int ABREAST = 4;                // pixels of a thread, THREADS apart

// grad (B,K,N) = 2 of_inner·filtered + of_outer·degree; of_inner, of_outer (B,K), degree (B,N).
// `jobs`: pieces of all images, once for each PLANES planes.
template <class T>
FN void ncut_back(const T* of_inner, const T* of_outer, const T* filtered, const T* degree,
                  int classes, i64 size, i64 jobs, T* grad) {
  const i64 pieces = (size - 1) / (ABREAST * THREADS) + 1;
  const int groups = (classes - 1) / PLANES + 1;
  for (i64 job = blockIdx.x; job < jobs; job += gridDim.x) {
    const i64 from = job % pieces * (ABREAST * THREADS) + threadIdx.x;
    const i64 image = job / pieces / groups;
    const int first = int(job / pieces % groups) * PLANES;
    T own[ABREAST];
#pragma unroll
    for (int i = 0; i < ABREAST; ++i) {
      const i64 at = from + i * THREADS;
      own[i] = at < size ? degree[image * size + at] : T(0);
    }
    for (int k = first; k < first + PLANES && k < classes; ++k) {
      const i64 plane = image * classes + k;
      const T inner = 2 * of_inner[plane], outer = of_outer[plane];
      T sum[ABREAST];
#pragma unroll
      for (int i = 0; i < ABREAST; ++i) {  // all read before the first is written
        const i64 at = from + i * THREADS;
        sum[i] = at < size ? filtered[plane * size + at] : T(0);
      }
#pragma unroll
      for (int i = 0; i < ABREAST; ++i) {
        const i64 at = from + i * THREADS;
        if (at < size) grad[plane * size + at] = inner * sum[i] + outer * own[i];
      }
    }
  }
}

#define NCUT_BACK(T, suffix)                                                                       \
  extern "C" __global__ void __launch_bounds__(THREADS)                                            \
      ncut_back_##suffix(const T* of_inner, const T* of_outer, const T* filtered, const T* degree, \
                         int classes, i64 size, i64 jobs, T* grad) {                               \
    ncut_back(of_inner, of_outer, filtered, degree, classes, size, jobs, grad);                    \
  }

NCUT_BACK(float, float)
NCUT_BACK(double, double)
