// The sums of a soft normalised cut on a GPU (the host's body is ncut.h). A block has 32×4 pixels
// of one image. Their affinities to the neighbours in one column of the disc lie in shared memory,
// for all planes to use; each warp has planes of its own, each thread four pixels below each other,
// so that the values it reads of a column serve all four.

#ifdef __CUDACC__

constexpr int ACROSS = 32, DOWN = 4, PIXELS = ACROSS * DOWN, WARPS = 4;
constexpr int CHUNK = 9;                // neighbours of a column at a time
constexpr int ROWS = CHUNK + DOWN - 1;  // that four pixels need of it

template <class T>
struct Cut {
  const T *p, *colours;  // (K,H,W), (C,H,W) of one image
  int classes, channels, height, width, reach, square;
  T color_rate, space_rate;
  int top, left;  // of the block's pixels

  FN bool inside(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }

  // Of pixel (y, x) and the one (dy, dx) away, both inside or 0.
  FN T affinity(int y, int x, int dy, int dx) const {
    if (!inside(y, x) || !inside(y + dy, x + dx)) return 0;
    const i64 size = i64(height) * width;
    const T *here = colours + i64(y) * width + x, *there = here + i64(dy) * width + dx;
    T apart = 0;
    for (int c = 0; c < channels; ++c, here += size, there += size) {
      const T difference = *there - *here;
      apart += difference * difference;
    }
    return exp(-(apart * color_rate + space_rate * T(dy * dy + dx * dx)));
  }

  // How far up and down the disc goes `dx` from its middle; less than 0 if it does not.
  FN int span(int dx) const {
    int most = reach;
    while (most >= 0 && most * most + dx * dx >= square) --most;
    return most;
  }
};

// Sums acc[plane][row] of a chunk: rows `from` … of the column dx away, `count` of them.
template <class T, int N>
FN void add_chunk(const Cut<T>& cut, const T (&weights)[CHUNK][PIXELS], int from, int count, int dx,
                  int first, int lane, T (&acc)[N][DOWN]) {
  T weight[CHUNK][DOWN];
#pragma unroll
  for (int i = 0; i < CHUNK; ++i)
#pragma unroll
    for (int o = 0; o < DOWN; ++o) weight[i][o] = i < count ? weights[i][o * ACROSS + lane] : T(0);
  const int y = cut.top + from, x = cut.left + lane + dx;
  const i64 size = i64(cut.height) * cut.width;
  u32 inside = 0;  // bit i: row y+i
#pragma unroll
  for (int i = 0; i < ROWS; ++i) inside |= u32(cut.inside(y + i, x)) << i;
  const T* column = cut.p + first * size + i64(y) * cut.width + x;
#pragma unroll  // or `acc` would not be in registers
  for (int k = 0; k < N; ++k, column += size) {
    if (first + k >= cut.classes) continue;
    T value[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) value[i] = inside >> i & 1 ? column[i * cut.width] : T(0);
#pragma unroll
    for (int i = 0; i < CHUNK; ++i)
#pragma unroll
      for (int o = 0; o < DOWN; ++o) acc[k][o] += weight[i][o] * value[i + o];
  }
}

// Sum over a warp, in a fixed order.
FN double warp_sum(double value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// Planes first … of the block's pixels, N of them a warp: Wp, Σ p·Wp and Σ p·d of them, and d if
// `degree` is asked for. inner and outer are of one block, `stride` from one plane to the next.
template <class T, int N>
FN void cut_block(const Cut<T>& cut, int first, T (&weights)[2][CHUNK][PIXELS],
                  T (&degrees)[PIXELS], T* filtered, T* degree, T* inner, T* outer, i64 stride) {
  const int thread = int(threadIdx.x), lane = thread % ACROSS;
  const int own_y = cut.top + thread / ACROSS, x = cut.left + lane;
  first += thread / 32 * N;
  T acc[N][DOWN] = {}, sum = 0;
  int turn = 0;
  for (int dx = -cut.reach; dx <= cut.reach; ++dx) {
    const int span = cut.span(dx);
    for (int from = -span; from <= span; from += CHUNK, turn ^= 1) {
      const int count = span - from + 1 < CHUNK ? span - from + 1 : CHUNK;
      for (int i = 0; i < count; ++i) {
        const T w = cut.affinity(own_y, x, from + i, dx);
        weights[turn][i][thread] = w;
        sum += w;
      }
      // The other half is written next: those who still read this one are waited for before it is.
      __syncthreads();
      add_chunk(cut, weights[turn], from, count, dx, first, lane, acc);
    }
  }
  degrees[thread] = sum;
  __syncthreads();
  const i64 size = i64(cut.height) * cut.width;
  if (degree && cut.inside(own_y, x)) degree[i64(own_y) * cut.width + x] = sum;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if (first + k >= cut.classes) break;
    double within = 0, whole = 0;
#pragma unroll
    for (int o = 0; o < DOWN; ++o)
      if (cut.inside(cut.top + o, x)) {
        const i64 at = (first + k) * size + i64(cut.top + o) * cut.width + x;
        filtered[at] = acc[k][o];
        within += double(cut.p[at]) * acc[k][o];
        whole += double(cut.p[at]) * degrees[o * ACROSS + lane];
      }
    within = warp_sum(within), whole = warp_sum(whole);
    if (lane == 0) inner[(first + k) * stride] = T(within), outer[(first + k) * stride] = T(whole);
  }
  __syncthreads();  // `degrees` and `weights` may be written again
}

#endif
