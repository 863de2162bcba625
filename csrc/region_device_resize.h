// The bounding box of each region resampled to one size, on a GPU, 0 where the nearest pixel is not
// of the region; and the adjoint (region_resize.h).

#ifdef __CUDACC__

// Where one row or column of a result comes from.
template <class T>
struct Tap {
  int low, high;
  T weight;  // of high
  int nearest;

  // i of n, of the pixels [start, end): as PyTorch's interpolate, "bilinear" with
  // align_corners=False and "nearest", whose scale is single.
  FN Tap(int start, int end, int i, int n) {
    const int size = end - start;
    const double at = (i + 0.5) * size / n - 0.5;
    low = at > 0 ? int(at) : 0;
    weight = at > 0 ? T(at - low) : T(0);
    high = start + smaller(low + 1, size - 1);
    low += start;
    nearest = start + smaller(int(float(i) * (float(size) / float(n))), size - 1);
  }
};

// (B,R,C,tall,wide); a thread has one pixel of a result for 32 channels.
template <class T>
FN void resize_regions(const Block& block, const T* x, int rows, const int* labels,
                       const int* boxes, int batch, int channels, int size, int width, int regions,
                       int tall, int wide, T* out) {
  const i64 cells = tall * wide;
  const i64 all = batch * ((channels + WARP - 1) / WARP) * i64(regions) * cells;
  for (i64 i = i64(blockIdx.x) * block.threads() + block.thread(); i < all;
       i += i64(gridDim.x) * block.threads()) {
    const Job job(i / cells, channels, regions);
    const Pixels<const T> from = job.of(x, size, channels, rows);
    const int *box = boxes + (job.image * regions + job.part) * 4, cell = int(i % cells);
    bool own = box[2] > box[0];
    const Tap<T> y(box[0], box[2], cell / wide, tall), across(box[1], box[3], cell % wide, wide);
    own = own && labels[job.image * size + y.nearest * width + across.nearest] == job.part;
    const int low = y.low * width, high = y.high * width;
    T* to = out + ((job.image * regions + job.part) * channels + job.tile * WARP) * cells + cell;
    for (int c = 0; c < from.here; ++c) {
      T value = 0;
      if (own) {
        const T above = (1 - across.weight) * from.at(low + across.low, c) +
                        across.weight * from.at(low + across.high, c);
        const T below = (1 - across.weight) * from.at(high + across.low, c) +
                        across.weight * from.at(high + across.high, c);
        value = (1 - y.weight) * above + y.weight * below;
      }
      to[c * cells] = value;
    }
  }
}

constexpr int DOWN = 8, ACROSS = 16;  // pixels of a tile

// The adjoint: a warp has a tile of pixels of 32 channels, each thread one, and goes through the
// regions whose boxes meet the tile in order.
template <class T>
FN void spread_regions(const Block& block, const T* z, int rows, const int* labels,
                       const int* boxes, int batch, int channels, int height, int width,
                       int regions, int tall, int wide, T (*tile)[WARP + 1], T* out) {
  const int lane = block.thread(), size = height * width;
  const int across = (width + ACROSS - 1) / ACROSS, down = (height + DOWN - 1) / DOWN;
  const i64 cells = tall * wide, parts = i64(down) * across;
  const i64 jobs = batch * ((channels + WARP - 1) / WARP) * parts;
  for (i64 j = blockIdx.x; j < jobs; j += gridDim.x) {
    const Job job(j, channels, parts);
    const Pixels<T> to = job.of(out, size, channels, rows);
    const int top = int(job.part / across) * DOWN, left = int(job.part % across) * ACROSS;
    const int* label = labels + job.image * size;
    for (int i = 0; i < DOWN * ACROSS; ++i) tile[i][lane] = 0;
    // A share of z for a pixel, where it is of the tile.
    auto add = [&](int y, int x, T value) {
      if (u32(y - top) < DOWN && u32(x - left) < ACROSS)
        tile[(y - top) * ACROSS + x - left][lane] += value;
    };
    for (int r = 0; r < regions; ++r) {
      const int* box = boxes + (job.image * regions + r) * 4;
      if (box[0] >= top + DOWN || box[2] <= top || box[1] >= left + ACROSS || box[3] <= left)
        continue;
      const T* from = z + ((job.image * regions + r) * channels + job.tile * WARP + lane) * cells;
      for (int i = 0; i < tall; ++i) {
        const Tap<T> y(box[0], box[2], i, tall);
        if (y.low >= top + DOWN || y.high < top) continue;
        for (int k = 0; k < wide; ++k) {
          const Tap<T> x(box[1], box[3], k, wide);
          if (x.low >= left + ACROSS || x.high < left || lane >= to.here) continue;
          if (label[y.nearest * width + x.nearest] != r) continue;
          const T value = from[i * wide + k];
          add(y.low, x.low, (1 - y.weight) * (1 - x.weight) * value);
          add(y.low, x.high, (1 - y.weight) * x.weight * value);
          add(y.high, x.low, y.weight * (1 - x.weight) * value);
          add(y.high, x.high, y.weight * x.weight * value);
        }
      }
    }
    block.sync();
    // Neighbouring threads write neighbours: pixels of a plane, channels of a row.
    for (int i = 0; i < DOWN * ACROSS; ++i) {
      const int cell = rows ? i : i / WARP * WARP + lane, channel = rows ? lane : i % WARP;
      const int y = top + cell / ACROSS, x = left + cell % ACROSS;
      if (y < height && x < width && channel < to.here)
        to.at(y * width + x, channel) = tile[cell][channel];
    }
    block.sync();
  }
}

#endif
