// The sums of a soft normalised cut on a GPU (the host's body is ncut.h). A block goes down a part
// of a strip of one image, from one row of neighbours to the next. Of each it has all planes in
// shared memory, and its affinities to the nine rows of pixels around, for all planes to use. A
// thread sums at four pixels of three of these rows, PLANES planes each. Discs larger than nine
// pixels are taken in squares of nine.
//
// SQUARE is that of the radius if a disc fits into one square, else more than all within a square.

#ifdef __CUDACC__

constexpr int DOWN = 32;                      // rows of a block
constexpr int SIDE = 4, SPAN = 2 * SIDE + 1;  // of a square of neighbours
constexpr int CREWS = 3;                      // warps that take turns at rows of pixels
constexpr int RING = 16;                      // rows whose degrees are being summed

template <class T>
struct Shape {
  static constexpr bool WIDE = sizeof(T) == 8;
  static constexpr int ACROSS = 128 / sizeof(T);     // pixels of a row
  static constexpr int QUADS = ACROSS / 4;           // fours of them
  static constexpr int NEAR = QUADS + 2 * SIDE / 4;  // fours of a row that are their neighbours
  static constexpr int SHARE = 32 / QUADS;           // threads of a warp with the same pixels
  static constexpr int EACH = WIDE ? 1 : PLANES;     // planes of a thread
  static constexpr int TEAMS = WIDE && GROUPS > 2 ? 2 : GROUPS;  // with planes of their own
  static constexpr int OWN = SHARE * EACH * TEAMS;               // planes of a block
  static constexpr int WARPS = CREWS * TEAMS, THREADS = 32 * WARPS;
};

template <class T>
struct Room {
  using S = Shape<T>;
  Four<T> values[2][S::OWN][S::NEAR];        // of a row of neighbours and the next
  Four<T> weights[2][SPAN][SPAN][S::QUADS];  // of pixels' row, neighbour of it, pixel
  Four<T> degrees[RING][2][S::QUADS];        // of neighbours on either side
  T distances[SPAN][SPAN];
};

template <class T>
struct Cut {
  const T *p, *colours;  // (K,H,W), (C,rows,pitch) of one image, infinite in a margin around it
  int classes, height, width, pitch, margin, reach, square;
  bool whole;                    // rows of p are multiples of four, and aligned
  T color_rate, space_rate;      // for powers of 2
  int top, bottom, left, first;  // of the block's pixels and planes
  int below, aside;              // where the square of neighbours lies
  int warp;

  // The first of a thread's planes, of the block's.
  FN int plane() const {
    constexpr int SHARE = Shape<T>::SHARE;
    return warp / CREWS * (SHARE * Shape<T>::EACH) + int(threadIdx.x) % SHARE;
  }
  // The first of its pixels, in fours.
  FN int quad() const { return int(threadIdx.x) % 32 / Shape<T>::SHARE; }
};

// The block's planes, a row after another from the highest neighbours on; a warp takes ONCE at a
// time.
template <class T>
struct Values {
  using S = Shape<T>;
  static constexpr int ONCE = 32 / S::NEAR;
  int plane, quad, x;
  const T* from;

  FN Values(const Cut<T>& cut) {
    const int lane = int(threadIdx.x) % 32;
    plane = lane < ONCE * S::NEAR ? cut.warp * ONCE + lane / S::NEAR : S::OWN;
    quad = lane % S::NEAR, x = cut.left + cut.aside - SIDE + 4 * quad;
    const int y = cut.top - SIDE + cut.below;
    from = cut.p + (i64(cut.first + plane) * cut.height + y) * cut.width + x;
  }

  // Row y.
  FN void next(const Cut<T>& cut, int y, Four<T> (&values)[S::OWN][S::NEAR]) {
#pragma unroll
    for (int i = 0; i < S::OWN; i += S::WARPS * ONCE) {
      if (plane + i >= S::OWN) break;
      const bool real = y >= 0 && y < cut.height && cut.first + plane + i < cut.classes;
      const T* here = from + i64(i) * cut.height * cut.width;
      Four<T>& to = values[plane + i][quad];
      if (cut.whole) {
        copy_four(to, here, real && x >= 0 && x < cut.width);
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          to.v[e] = real && x + e >= 0 && x + e < cut.width ? here[e] : T(0);
      }
    }
    from += cut.width;
  }
};

// What distance adds to the exponents of affinities.
template <class T>
FN void measure(const Cut<T>& cut, T (&distances)[SPAN][SPAN]) {
  for (int i = int(threadIdx.x); i < SPAN * SPAN; i += Shape<T>::THREADS) {
    const int row = i / SPAN, column = i % SPAN;
    const int dy = cut.below + row - SIDE, dx = cut.aside + column - SIDE;
    // Squares beside each other share a column, which is of the inner one.
    const bool counts = dy * dy + dx * dx < cut.square && abs(dx) > abs(cut.aside) - SIDE;
    distances[row][column] = counts ? -cut.space_rate * T(dy * dy + dx * dx) : T(-1e30);
  }
}

// The affinities of pixels to rows of neighbours, one after another from the highest on. A task is
// four pixels of one of the rows around and their neighbours on one side.
template <class T>
struct Affinities {
  static constexpr int QUADS = Shape<T>::QUADS, TASKS = SPAN * 2 * QUADS;
  int d, side, quad;  // of the task: pixels' row, the lowest first
  const T *here, *there;

  FN void start(const Cut<T>& cut, int task) {
    quad = task % QUADS, side = task / QUADS % 2, d = task / (2 * QUADS);
    const int x = cut.margin + cut.left + 4 * quad, y = cut.margin + cut.top - SIDE;
    here = cut.colours + i64(y + SIDE - d) * cut.pitch + x;
    there = cut.colours + i64(y + cut.below) * cut.pitch + x + cut.aside + SIDE * (side - 1);
  }

  // To the row of neighbours whose middle row of pixels is y.
  FN void next(const Cut<T>& cut, int y, Four<T> (&weights)[SPAN][SPAN][QUADS], Room<T>& room) {
    const int own = y + SIDE - d;
    if (d < SPAN && own >= cut.top && own < cut.bottom) {
      const i64 size = i64(cut.height + 2 * cut.margin) * cut.pitch;
      T apart[SIDE + 1][4] = {};
#pragma unroll
      for (int c = 0; c < CHANNELS; ++c) {
        const Four<T> mine = four_of(here + c * size);
        const Four<T> near[] = {four_of(there + c * size), four_of(there + c * size + 4)};
#pragma unroll
        for (int i = 0; i <= SIDE; ++i)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const T difference = near[(e + i) / 4].v[(e + i) % 4] - mine.v[e];
            apart[i][e] += difference * difference;
          }
      }
      Four<T> sum{};
      if (d > 0) sum = room.degrees[own % RING][side][quad];
#pragma unroll
      for (int i = 0; i <= SIDE; ++i) {
        if (side && i == 0) continue;  // the middle is of the other side
        const T distance = room.distances[d][i + side * SIDE];
        Four<T> weight;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          weight.v[e] = exp2(distance - apart[i][e] * cut.color_rate);
          sum.v[e] += weight.v[e];
        }
        weights[d][i + side * SIDE][quad] = weight;
      }
      room.degrees[own % RING][side][quad] = sum;
    }
    here += cut.pitch, there += cut.pitch;
  }
};

// Of a thread: its sums for its three rows, the lowest first, and Σ p·Wp and Σ p·d so far.
template <class T>
struct Sums {
  static constexpr int EACH = Shape<T>::EACH;
  T rows[CREWS][EACH][4], within[EACH], whole[EACH];
};

// Adds a row of neighbours. TURN is how many came before since the lowest of a crew's rows was
// first within reach.
template <int TURN, class T>
FN void add_row(const Cut<T>& cut, int y, const Room<T>& room, int half, Sums<T>& sums) {
  constexpr int EACH = Shape<T>::EACH, SHARE = Shape<T>::SHARE;
  const int quad = cut.quad(), plane = cut.plane();
  Four<T> value[EACH][3];
#pragma unroll
  for (int k = 0; k < EACH; ++k)
#pragma unroll
    for (int i = 0; i < 3; ++i) value[k][i] = room.values[half][plane + k * SHARE][quad + i];
#pragma unroll
  for (int s = CREWS - 1; s >= 0; --s) {
    const int d = TURN + s * CREWS, own = y + SIDE - d;
    if (own < cut.top || own >= cut.bottom) continue;
    if (TURN == 0) {  // a new row; the others move up
#pragma unroll
      for (int k = 0; k < EACH; ++k)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums.rows[s][k][e] = s ? sums.rows[s - 1][k][e] : T(0);
    }
#pragma unroll
    for (int i = 0; i < SPAN; ++i) {
      if ((d - SIDE) * (d - SIDE) + (i - SIDE) * (i - SIDE) >= SQUARE) continue;
      const Four<T> weight = room.weights[half][d][i][quad];
#pragma unroll
      for (int k = 0; k < EACH; ++k)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          sums.rows[s][k][e] += weight.v[e] * value[k][(e + i) / 4].v[(e + i) % 4];
    }
  }
}

// Writes the sums of row y, or adds them to those of the squares before.
template <class T>
FN void finish_row(const Cut<T>& cut, int y, bool anew, const Room<T>& room, Sums<T>& sums,
                   T* filtered, T* degree) {
  const int quad = cut.quad(), x = cut.left + 4 * quad, count = cut.width - x;
  const int plane = cut.first + cut.plane();
  const i64 size = i64(cut.height) * cut.width;
  i64 at = i64(y) * cut.width + x;
  Four<T> whole = room.degrees[y % RING][0][quad];
#pragma unroll
  for (int e = 0; e < 4; ++e) whole.v[e] += room.degrees[y % RING][1][quad].v[e];
  if (plane == 0) store_four(whole, degree + at, count, cut.whole, anew);
  at += plane * size;
#pragma unroll
  for (int k = 0; k < Shape<T>::EACH; ++k, at += Shape<T>::SHARE * size) {
    const int real = plane + k * Shape<T>::SHARE < cut.classes ? count : 0;
    const Four<T> own = load_four(cut.p + at, real, cut.whole);
    Four<T> sum;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      sum.v[e] = sums.rows[CREWS - 1][k][e];
      if (e < count) {  // beyond the image nothing is a number
        sums.within[k] += own.v[e] * sum.v[e];
        sums.whole[k] += own.v[e] * whole.v[e];
      }
    }
    store_four(sum, filtered + at, real, cut.whole, anew);
  }
}

// One square of neighbours.
template <class T>
FN void cut_square(const Cut<T>& cut, bool anew, Room<T>& room, Sums<T>& sums, T* filtered,
                   T* degree) {
  constexpr int THREADS = Shape<T>::THREADS, TASKS = (Affinities<T>::TASKS - 1) / THREADS + 1;
  measure(cut, room.distances);
  Values<T> values(cut);
  Affinities<T> affinities[TASKS];
#pragma unroll
  for (int i = 0; i < TASKS; ++i) affinities[i].start(cut, int(threadIdx.x) + i * THREADS);
  const auto prepare = [&](int y, int half) {
    values.next(cut, y + cut.below, room.values[half]);
#pragma unroll
    for (int i = 0; i < TASKS; ++i) affinities[i].next(cut, y, room.weights[half], room);
  };
  __syncthreads();  // and nobody adds the last row of the square before
  int y = cut.top - SIDE, turn = (CREWS - cut.warp % CREWS) % CREWS;
  prepare(y, 0);
  for (int half = 0; y < cut.bottom + SIDE; ++y, half ^= 1) {
    copied();
    __syncthreads();
    if (y + 1 < cut.bottom + SIDE) prepare(y + 1, half ^ 1);
    if (turn == 0) add_row<0>(cut, y, room, half, sums);
    if (turn == 1) add_row<1>(cut, y, room, half, sums);
    if (turn == 2) {
      add_row<2>(cut, y, room, half, sums);
      if (y - SIDE >= cut.top) finish_row(cut, y - SIDE, anew, room, sums, filtered, degree);
    }
    turn = turn < 2 ? turn + 1 : 0;
  }
}

// Sum of the threads of a warp with the same planes, in a fixed order.
template <class T>
FN T sum_of_pixels(T value) {
  for (int step = Shape<T>::SHARE; step < 32; step *= 2)
    value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// All neighbours: Wp, d, and Σ p·Wp and Σ p·d of the rows of each crew.
template <class T>
FN void cut_block(Cut<T> cut, Room<T>& room, T* filtered, T* degree, T* inner, T* outer) {
  const int down = (cut.reach + SIDE) / SPAN * SPAN;
  const int across = (cut.reach + SIDE - 1) / (2 * SIDE) * (2 * SIDE);
  Sums<T> sums{};
  for (cut.below = -down; cut.below <= down; cut.below += SPAN)
    for (cut.aside = -across; cut.aside <= across; cut.aside += 2 * SIDE) {
      const bool anew = cut.below == -down && cut.aside == -across;
      cut_square(cut, anew, room, sums, filtered, degree);
    }
#pragma unroll
  for (int k = 0; k < Shape<T>::EACH; ++k) {
    const int plane = cut.first + cut.plane() + k * Shape<T>::SHARE;
    const T within = sum_of_pixels(sums.within[k]), whole = sum_of_pixels(sums.whole[k]);
    if (cut.quad() == 0 && plane < cut.classes) inner[plane] = within, outer[plane] = whole;
  }
}

#endif
