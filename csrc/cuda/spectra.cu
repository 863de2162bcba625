// Spectra of planes and planes of spectra on a GPU: a block a plane (spectra_device.h).

#include "block.h"
//
#ifndef ROWS  // of a plane among zeros; the launcher takes what holds the displacements
#define ROWS 210
#define COLUMNS 210
#endif
#include "spectra_device.h"

// A plane, and then the roots of 1.
template <class T>
FN Complex<T>* with_roots(double* shared, const Complex<T>* roots) {
  Complex<T>* plane = reinterpret_cast<Complex<T>*>(shared);
  for (int i = int(threadIdx.x); i < ROWS + COLUMNS; i += int(blockDim.x))
    plane[ROWS * WIDE + i] = roots[i];
  return plane;
}

// planes (P,height,width) → hat (P,ROWS,WIDE). Pixel (y, x) comes to (y − shift, x − shift), those
// above and left of it to the other end. `roots`: exp(−2πi·t/n) of n = ROWS, then of COLUMNS.
template <class T>
FN void spectra(const T* planes, int height, int width, int shift, const Complex<T>* roots,
                i64 count, Complex<T>* hat, double* shared) {
  Complex<T>* plane = with_roots(shared, roots);
  const Complex<T>*down = plane + ROWS * WIDE, *across = down + ROWS;
  const Rows rows = {ROWS - shift, height};
  for (i64 job = blockIdx.x; job < count; job += gridDim.x) {
    load_plane(planes + job * height * width, height, width, shift, plane);
    __syncthreads();
    transform<false, false>(plane, rows, across);
    untangle<false>(plane, rows, across);
    transform<true, false>(plane, rows, down);
    Complex<T>* to = hat + job * (ROWS * WIDE);
    for (int i = int(threadIdx.x); i < ROWS * WIDE; i += int(blockDim.x)) to[i] = plane[i];
    __syncthreads();
  }
}

// The other way round, but for a part of every plane: hat (P,ROWS,WIDE) → out (P/inner,inner,
// height,width) with strides of planes. (y, x) comes from (y − shift, x − shift).
template <class T>
FN void pixels(const Complex<T>* hat, int height, int width, int shift, const Complex<T>* roots,
               i64 count, i64 inner, i64 outer_stride, i64 inner_stride, T* out, double* shared) {
  Complex<T>* plane = with_roots(shared, roots);
  const Complex<T>*down = plane + ROWS * WIDE, *across = down + ROWS;
  const Rows rows = {ROWS - shift, height};
  for (i64 job = blockIdx.x; job < count; job += gridDim.x) {
    const Complex<T>* from = hat + job * (ROWS * WIDE);
    for (int i = int(threadIdx.x); i < ROWS * WIDE; i += int(blockDim.x)) plane[i] = from[i];
    __syncthreads();
    transform<true, true>(plane, rows, down);
    untangle<true>(plane, rows, across);
    transform<false, true>(plane, rows, across);
    T* to = out + job / inner * outer_stride + job % inner * inner_stride;
    each_place(height, width, [&](int y, int x) {
      const T* row = reinterpret_cast<const T*>(plane + rows(y) * WIDE);
      to[y * width + x] = row[wrapped<COLUMNS>(x + COLUMNS - shift)] * (T(1) / (ROWS * HALF));
    });
    __syncthreads();
  }
}

#define SPECTRA(T, suffix, threads)                                                             \
  extern "C" __global__ void __launch_bounds__(threads, 1) plane_spectra_##suffix(              \
      const T* planes, int height, int width, int shift, const T* roots, i64 count, T* hat) {   \
    DYNAMIC_SHARED(shared);                                                                     \
    spectra<T>(planes, height, width, shift, reinterpret_cast<const Complex<T>*>(roots), count, \
               reinterpret_cast<Complex<T>*>(hat), shared);                                     \
  }                                                                                             \
  extern "C" __global__ void __launch_bounds__(threads, 1)                                      \
      plane_pixels_##suffix(const T* hat, int height, int width, int shift, const T* roots,     \
                            i64 count, i64 inner, i64 outer_stride, i64 inner_stride, T* out) { \
    DYNAMIC_SHARED(shared);                                                                     \
    pixels<T>(reinterpret_cast<const Complex<T>*>(hat), height, width, shift,                   \
              reinterpret_cast<const Complex<T>*>(roots), count, inner, outer_stride,           \
              inner_stride, out, shared);                                                       \
  }

SPECTRA(float, float, 1024)
SPECTRA(double, double, 512)
