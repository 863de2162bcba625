// SLIC on a GPU, label for label the host's (slic.h): one thread block works on a small image
// through all steps, many on a large one, a launch a step. Compiled without fused multiply-adds,
// which would round otherwise.

#ifdef __CUDACC__

constexpr int WARP = 32;
constexpr int THREADS = 256, WARPS = THREADS / WARP;
constexpr int TILE = 32, DEEP = TILE * TILE / THREADS;  // pixels of a thread, one below another
constexpr int FEATURES = 8;                             // summed at a time
constexpr int NONE = -1;  // label of a pixel that no centre has reached, masked ones too
constexpr int FAR = 0x7fffffff;

FN int smaller(int a, int b) { return a < b ? a : b; }
FN int larger(int a, int b) { return a > b ? a : b; }

struct Box {
  int top, left, bottom, right;  // the latter two excluded
};

// One image: what it is segmented by, and its memory.
struct Slic {
  int channels, height, width, centres, iterations;
  int zero;         // SLIC-zero: colours are weighed by the centre
  int seek;         // centres first settle by position alone
  int least, most;  // pixels of a connected region
  int reach_y, reach_x;
  int start;             // label of the first region
  float weight;          // of the squared distance in pixels
  const float* seeds;    // (K,2) y and x; NaN where there is none
  const float* colours;  // (C,HW) ÷ compactness; NaN where masked
  float* features;       // (K,2+C) y, x, colours; NaN: without pixels
  float* farthest;       // (K) of SLIC-zero: largest squared colour distance so far
  Box* windows;          // (K)
  Box* boxes;            // (2,K) of the pixels, in turns
  int* labels;           // (HW)
  int* work;             // (6,HW), see slic_device_connect.h
  int* counts;           // (chunks)
  int* queued;           // (3)

  FN int size() const { return height * width; }
  FN Box* boxes_of(int round) const { return boxes + round % 2 * i64(centres); }
  FN float* centre(int k) const { return features + i64(k) * (2 + channels); }
};

// The blocks that work on one image.
struct Team {
  Block block;
  int index, blocks;

  template <class F>
  FN void each(i64 n, F f) const {
    for (i64 i = i64(index) * THREADS + block.thread(); i < n; i += i64(blocks) * THREADS)
      f(int(i));
  }
  template <class F>
  FN void each_warp(i64 n, F f) const {
    for (i64 i = i64(index) * WARPS + block.thread() / WARP; i < n; i += i64(blocks) * WARPS)
      f(int(i));
  }
};

// Pixels that a centre may take.
FN Box window(const Slic& s, float y, float x) {
  const float top = y - float(s.reach_y), bottom = y + float(s.reach_y) + 1;
  const float left = x - float(s.reach_x), end = x + float(s.reach_x) + 1;
  if (!(y == y && x == x)) return {0, 0, 0, 0};  // without pixels
  return {top > 0 ? int(top) : 0, left > 0 ? int(left) : 0,
          bottom < float(s.height) ? int(bottom) : s.height,
          end < float(s.width) ? int(end) : s.width};
}

// Centres at their seeds.
FN void seed(const Slic& s, const Team& team) {
  team.each(s.centres, [&](int k) {
    float* centre = s.centre(k);
    centre[0] = s.seeds[2 * k], centre[1] = s.seeds[2 * k + 1];
    for (int c = 0; c < s.channels; ++c) centre[2 + c] = 0;
    s.windows[k] = window(s, centre[0], centre[1]);
  });
}

FN void clear(const Slic& s, const Team& team) {
  team.each(s.size(), [&](int p) { s.labels[p] = NONE; });
  team.each(s.centres, [&](int k) {
    s.farthest[k] = 1;
    s.boxes[k] = s.boxes[s.centres + k] = {FAR, FAR, 0, 0};
  });
}

template <int C>
struct Candidate {
  float y, x, farthest, colour[C ? C : 1];
  int k;
  Box window;
};

// Each pixel to its nearest centre, the first of equals, among those whose window it lies in. A
// tile's candidates come in ascending order, a block of them at a time. C channels, 0 for any.
template <int C>
FN void assign(const Slic& s, const Team& team, bool by_colour, Box* boxes) {
  __shared__ Candidate<C> list[THREADS];
  __shared__ int found[WARPS];
  const float infinite = __int_as_float(0x7f800000);
  const Block& block = team.block;
  const int thread = block.thread(), channels = C ? C : s.channels, size = s.size();
  const int across = (s.width + TILE - 1) / TILE, tiles = across * ((s.height + TILE - 1) / TILE);
  for (int tile = team.index; tile < tiles; tile += team.blocks) {
    const int top = tile / across * TILE, left = tile % across * TILE;
    const int x = left + thread % TILE, y = top + thread / TILE;
    float best[DEEP], colour[DEEP][C ? C : 1];
    int label[DEEP];
    for (int i = 0; i < DEEP; ++i) {
      const int row = y + i * (TILE / DEEP), pixel = row * s.width + x;
      const bool inside = row < s.height && x < s.width && s.colours[pixel] == s.colours[pixel];
      best[i] = inside ? infinite : -infinite;  // never less than that
      label[i] = inside ? s.labels[pixel] : NONE;
      for (int c = 0; c < C; ++c) colour[i][c] = inside ? s.colours[i64(c) * size + pixel] : 0;
    }
    for (int first = 0; first < s.centres; first += THREADS) {
      const int k = first + thread;
      Box w = {0, 0, 0, 0};
      if (k < s.centres) w = s.windows[k];
      const bool meets = w.top < top + TILE && w.bottom > top && w.left < left + TILE &&
                         w.right > left && w.top < w.bottom && w.left < w.right;
      const u32 bits = __ballot_sync(~0u, meets);
      if (thread % WARP == 0) found[thread / WARP] = __popc(bits);
      block.sync();
      int at = __popc(bits & ((1u << thread % WARP) - 1)), count = 0;
      for (int warp = 0; warp < WARPS; ++warp) {
        if (warp == thread / WARP) at += count;
        count += found[warp];
      }
      if (meets) {
        const float* centre = s.centre(k);
        list[at] = {centre[0], centre[1], s.zero ? s.farthest[k] : 1, {}, k, w};
        for (int c = 0; c < C; ++c) list[at].colour[c] = centre[2 + c];
      }
      block.sync();
      for (int n = 0; n < count; ++n) {
        const Candidate<C>& near = list[n];
        if (x < near.window.left || x >= near.window.right) continue;
        const float off_x = near.x - float(x), x2 = off_x * off_x;
        const float* centre = s.centre(near.k);
        for (int i = 0; i < DEEP; ++i) {
          const int row = y + i * (TILE / DEEP);
          if (row < near.window.top || row >= near.window.bottom) continue;
          const float off_y = near.y - float(row);
          float distance = (off_y * off_y + x2) * s.weight, apart = 0;
          for (int c = 0; by_colour && c < channels; ++c) {
            const float t = C ? near.colour[C ? c : 0] - colour[i][C ? c : 0]
                              : centre[2 + c] - s.colours[i64(c) * size + row * s.width + x];
            apart = c ? apart + t * t : t * t;
          }
          if (s.zero) apart /= near.farthest;
          distance += apart;
          if (distance < best[i]) best[i] = distance, label[i] = near.k;
        }
      }
    }
    for (int i = 0; i < DEEP; ++i) {
      const int row = y + i * (TILE / DEEP);
      if (row < s.height && x < s.width) s.labels[row * s.width + x] = label[i];
    }
    block.sync();
    // The box of each centre's pixels: a run's first and last tell of it.
    for (int i = 0; i < DEEP; ++i) {
      const int row = y + i * (TILE / DEEP), k = label[i];
      if (row >= s.height || x >= s.width || k < 0) continue;
      const int* of = s.labels + row * s.width + x;
      if (x == left || of[-1] != k) {
        atomicMin(&boxes[k].top, row);
        atomicMin(&boxes[k].left, x);
        atomicMax(&boxes[k].bottom, row + 1);
      }
      if (x + 1 == smaller(left + TILE, s.width) || of[1] != k) atomicMax(&boxes[k].right, x + 1);
    }
  }
}

// f(y, x, whether that is a pixel of centre k) for all x of a warp at once, over the box in raster
// order where any is.
template <class F>
FN void each_member(const Slic& s, int k, const Box& box, F f) {
  const int lane = threadIdx.x % WARP;
  for (int y = box.top; y < box.bottom; ++y)
    for (int left = box.left; left < box.right; left += WARP) {
      const int x = left + lane;
      const bool own = x < box.right && s.labels[y * s.width + x] == k;
      const u32 bits = __ballot_sync(~0u, own);
      if (bits) f(y, x, own, __popc(bits));
    }
}

// Each centre to the mean of its pixels, summed in raster order: a warp has one centre, a thread
// one feature. Then its window, and `others` for the next boxes.
FN void update(const Slic& s, const Team& team, const Box* boxes, Box* others) {
  __shared__ float staged[WARPS][FEATURES][WARP + 1];
  const int lane = threadIdx.x % WARP, features = 2 + s.channels, size = s.size();
  float (*values)[WARP + 1] = staged[threadIdx.x / WARP];
  team.each_warp(s.centres, [&](int k) {
    float* centre = s.centre(k);
    for (int first = 0; first < features; first += FEATURES) {
      const int here = smaller(FEATURES, features - first);
      float sum = 0;
      int members = 0;
      each_member(s, k, boxes[k], [&](int y, int x, bool own, int count) {
        members += count;
        for (int f = 0; f < here; ++f) {
          const int c = first + f - 2;
          float value = 0;  // adding it changes nothing
          if (own)
            value = c == -2   ? float(y)
                    : c == -1 ? float(x)
                              : s.colours[i64(c) * size + y * s.width + x];
          values[f][lane] = value;
        }
        __syncwarp();
        if (lane < here)
#pragma unroll 8
          for (int i = 0; i < WARP; ++i) sum += values[lane][i];
        __syncwarp();
      });
      if (lane < here) centre[first + lane] = sum / float(members);  // NaN without pixels
    }
    __syncwarp();
    if (s.zero) {
      float most = 0;
      each_member(s, k, boxes[k], [&](int y, int x, bool own, int) {
        float apart = 0;
        for (int c = 0; own && c < s.channels; ++c) {
          const float t = s.colours[i64(c) * size + y * s.width + x] - centre[2 + c];
          apart += t * t;
        }
        if (most < apart) most = apart;
      });
      values[0][lane] = most;
      __syncwarp();
      for (int i = 0; i < WARP && lane == 0; ++i)
        if (s.farthest[k] < values[0][i]) s.farthest[k] = values[0][i];
      __syncwarp();
    }
    if (lane == 0) {
      s.windows[k] = window(s, centre[0], centre[1]);
      others[k] = {FAR, FAR, 0, 0};
    }
  });
}

#endif
