// IEM on a GPU: one thread block an image and initial mask, every update in one launch. The body
// is csrc/iem.h, which inpaint.cpp builds for the CPU.

#include "block.h"
//
#include "bits.h"
//
#include "filter.h"
//
#include "iem.h"

using uint8 = unsigned char;

template <class Pixel, int C, int THREADS>
__device__ void maximise(Problem p, const Pixel* images, const i64 image_strides[4], float scale,
                         const bool* init, const i64 init_strides[4], int batch, int starts,
                         char* memory, i64 memory_stride, bool* masks, double* error, int* steps,
                         int* status) {
  __shared__ double scratch[THREADS / 32];
  __shared__ Workspace s;
  const Block block{scratch};
  if (block.thread() == 0) s.carve(p, memory + blockIdx.x * memory_stride, THREADS);
  block.sync();
  // A block takes runs until none is left, so that memory does not grow with the batch.
  for (i64 run = blockIdx.x; run < i64(batch) * starts; run += gridDim.x) {
    const i64 i = run / starts, start = run % starts;
    Iem<C> iem{block, p, s, 0, 0, 0, {}, {}};
    iem.load_image(images + i * image_strides[0], image_strides + 1, scale);
    iem.load_mask(init + i * init_strides[0] + start * init_strides[1], init_strides + 2, s.mask);
    int run_steps, run_status;
    iem.run(&run_steps, &run_status);
    block.each(p.height, p.width, [&](int y, int x) {
      masks[(run * p.height + y) * p.width + x] =
          s.mask[i64(y) * p.words() + (x >> 6)] >> (x & 63) & 1;
    });
    if (block.thread() == 0) {
      error[run] = iem.error, steps[run] = run_steps, status[run] = run_status;
    }
    block.sync();
  }
}

// Of images (B,C,H,W) and init (B,S,H,W): masks (B,S,H,W), error, steps and status (B,S). Strides
// count elements; each block has memory_stride bytes of memory.
#define KERNEL(name, Pixel, C, THREADS)                                                            \
  extern "C" __global__ void __launch_bounds__(THREADS, 1)                                         \
      name(const Pixel* images, i64 image_b, i64 image_c, i64 image_y, i64 image_x, float scale,   \
           const bool* init, i64 init_b, i64 init_s, i64 init_y, i64 init_x, int batch,            \
           int starts, int channels, int height, int width, const float* table_y, int stride_y,    \
           const float* table_x, int stride_x, int radius, int least, int iterations, double lamb, \
           int smoothing, int boundary_only, char* memory, i64 memory_stride, bool* masks,         \
           double* error, int* steps, int* status) {                                               \
    const i64 image_strides[] = {image_b, image_c, image_y, image_x};                              \
    const i64 init_strides[] = {init_b, init_s, init_y, init_x};                                   \
    const Problem p{channels,                                                                      \
                    height,                                                                        \
                    width,                                                                         \
                    iterations,                                                                    \
                    smoothing,                                                                     \
                    boundary_only,                                                                 \
                    least,                                                                         \
                    lamb,                                                                          \
                    {table_y, height, radius, stride_y},                                           \
                    {table_x, width, radius, stride_x}};                                           \
    maximise<Pixel, C, THREADS>(p, images, image_strides, scale, init, init_strides, batch,        \
                                starts, memory, memory_stride, masks, error, steps, status);       \
  }

#ifdef PIXEL  // the launcher compiles the one that it needs
KERNEL(iem, PIXEL, CHANNELS, BLOCK)
#else  // to see what they take: a pixel's type is of no weight
KERNEL(iem_uint8_rgb, uint8, 3, 512)
KERNEL(iem_float, float, 0, 256)  // any number of channels: more registers a thread
#endif

// Bytes of memory that a block needs.
extern "C" __global__ void iem_workspace(int channels, int height, int width, int radius,
                                         int threads, i64* bytes) {
  const Problem p{
      channels, height, width, 0, 0, 0, 0, 0, {0, height, radius, 0}, {0, width, radius, 0}};
  Workspace s;
  *bytes = s.carve(p, nullptr, threads);
}
