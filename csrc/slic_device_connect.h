// Connected regions on a GPU, the same as the host's (slic_connect.h), which floods one after the
// other from each first pixel in raster order: a flood ends at `most` pixels, and if it has fewer
// than `least` joins the region that it has met last. Here pieces, what the floods get, are found
// first: the components of equal labels, those of more than `most` flooded each by a thread.
// Regions are pieces of enough pixels, numbered by their first one; the others are flooded for what
// they met.
//
// A small piece that has met no region keeps the number that the next region gets, and another
// small piece does not notice it where it would get the same one. It leads such a group.

#ifdef __CUDACC__

constexpr int CHUNK = 1024;            // pixels counted by a warp
constexpr int TAKEN = -2, AGAIN = -3;  // marks of pixels that a flood has reached

struct Connect {
  const Slic& s;
  const Team& team;
  int most;
  int *root, *piece, *count, *parent, *rank, *queue;

  FN Connect(const Slic& s, const Team& team) : s(s), team(team), most(larger(1, s.most)) {
    int* at = s.work;
    for (int** array : {&root, &piece, &count, &parent, &rank, &queue}) *array = at, at += s.size();
  }

  FN bool first(int p) const { return piece[p] == p; }
  FN bool region(int p) const { return first(p) && count[p] >= s.least; }
  FN bool small(int p) const { return first(p) && count[p] < s.least; }
  FN int chunks() const { return (s.size() + CHUNK - 1) / CHUNK; }

  // f(neighbour) of a pixel until it returns false, in the order that decides ties.
  template <class F>
  FN void neighbours(int p, F f) const {
    const int x = p % s.width;
    if (x + 1 < s.width && !f(p + 1)) return;
    if (x > 0 && !f(p - 1)) return;
    if (p + s.width < s.size() && !f(p + s.width)) return;
    if (p >= s.width) f(p - s.width);
  }

  FN int find(int p) const {
    for (int up; (up = __ldcg(root + p)) != p;) p = up;
    return p;
  }

  // --- components: a tree of pixels each, whose root is the first pixel

  FN void link() const {
    team.each(s.size(), [&](int p) {
      const int label = s.labels[p];
      const bool on = p % s.width > 0 && s.labels[p - 1] == label;
      root[p] = label < 0 ? NONE : on ? p - 1 : p;
      count[p] = 0;
      if (p == 0) s.queued[0] = s.queued[1] = s.queued[2] = 0;
    });
  }

  FN void unite() const {
    team.each(s.size(), [&](int p) {
      const int label = s.labels[p], up = p - s.width;
      if (label < 0 || up < 0 || s.labels[up] != label) return;
      // The pixels to the left have done it.
      if (p % s.width > 0 && s.labels[p - 1] == label && s.labels[up - 1] == label) return;
      for (int a = find(p), b = find(up); a != b; a = find(a), b = find(b)) {
        if (a < b) {
          const int swapped = a;
          a = b, b = swapped;
        }
        a = atomicMin(root + a, b);
      }
    });
  }

  FN void flatten() const {
    team.each(s.size(), [&](int p) {
      const int first = root[p] == NONE ? NONE : find(p);
      piece[p] = first;
      if (first != NONE) atomicAdd(count + first, 1);
    });
  }

  // --- pieces

  // Of the component whose root p is.
  FN void cut(int p, const Box& box) const {
    const int label = s.labels[p], all = count[p];
    int* list = queue + atomicAdd(s.queued, all);
    int done = 0, first_count = 0;
    for (int y = p / s.width; done < all; ++y)
      for (int x = box.left; x < box.right && done < all; ++x) {
        const int at = y * s.width + x;
        // What no flood has reached is still in the piece p; the first piece is marked till the
        // end.
        if (s.labels[at] != label || piece[at] != p) continue;
        const int mark = at == p ? TAKEN : at;
        int* flood = list + done;
        int size = 1;
        flood[0] = at, piece[at] = mark;
        for (int i = 0; i < size && size < most; ++i)
          neighbours(flood[i], [&](int next) {
            if (s.labels[next] == label && piece[next] == p)
              piece[next] = mark, flood[size++] = next;
            return size < most;
          });
        if (at == p) first_count = size;
        else count[at] = size;
        done += size;
      }
    for (int i = 0; i < first_count; ++i) piece[list[i]] = p;
    count[p] = first_count;
  }

  FN void cut() const {
    const Box* boxes = s.boxes_of(s.iterations - 1);
    team.each(s.size(), [&](int p) {
      if (root[p] == p && count[p] > most) cut(p, boxes[s.labels[p]]);
    });
  }

  // --- ranks: how many regions have an earlier first pixel

  FN void tally() const {
    team.each_warp(chunks(), [&](int chunk) {
      int regions = 0;
      for (int i = 0; i < CHUNK; i += WARP) {
        const i64 p = i64(chunk) * CHUNK + i + threadIdx.x % WARP;
        regions += __popc(__ballot_sync(~0u, p < s.size() && region(int(p))));
      }
      if (threadIdx.x % WARP == 0) s.counts[chunk] = regions;
    });
  }

  FN void accumulate() const {
    __shared__ int sums[THREADS];
    if (team.index > 0) return;
    const int thread = threadIdx.x, n = chunks();
    const int from = int(i64(n) * thread / THREADS), to = int(i64(n) * (thread + 1) / THREADS);
    int sum = 0;
    for (int i = from; i < to; ++i) sum += s.counts[i];
    sums[thread] = sum;
    team.block.sync();
    sum = 0;
    for (int i = 0; i < thread; ++i) sum += sums[i];
    for (int i = from; i < to; ++i) {
      const int regions = s.counts[i];
      s.counts[i] = sum, sum += regions;
    }
  }

  FN void number() const {
    team.each_warp(chunks(), [&](int chunk) {
      int regions = s.counts[chunk];
      const int lane = threadIdx.x % WARP;
      for (int i = 0; i < CHUNK; i += WARP) {
        const i64 p = i64(chunk) * CHUNK + i + lane;
        const u32 bits = __ballot_sync(~0u, p < s.size() && region(int(p)));
        if (p < s.size()) {
          rank[p] = regions + __popc(bits & ((1u << lane) - 1));
          s.labels[p] = FAR;  // from here on: the first pixel that leads the rank
        }
        regions += __popc(bits);
      }
    });
  }

  // --- what small pieces join

  // Whether a piece has the number `own`, from a small piece that has met no region.
  FN bool unnoticed(int p, int own) const {
    while (rank[p] == own && small(p) && parent[p] != p) p = parent[p];
    return rank[p] == own && small(p);
  }

  // What the piece p meets last of what lies before it, or p. `mark` tells its pixels from others.
  FN int met(int p, int mark, int* list) const {
    int last = p, size = 1;
    list[0] = p, root[p] = mark;
    for (int i = 0; i < size && size < most; ++i)
      neighbours(list[i], [&](int next) {
        const int other = piece[next];
        if (other == p) {
          if (root[next] != mark) root[next] = mark, list[size++] = next;
          return size < most;
        }
        if (other != NONE && other < p && !(mark == AGAIN && unnoticed(other, rank[p])))
          last = other;
        return true;
      });
    return last;
  }

  FN void join() const {
    team.each(s.size(), [&](int p) {
      if (!first(p)) return;
      parent[p] = p;
      if (region(p)) return;
      parent[p] = met(p, TAKEN, queue + atomicAdd(s.queued + 1, count[p]));
      if (parent[p] == p) atomicMin(s.labels + rank[p], p);
    });
  }

  // The small pieces up to the next region again, in order, where one leads.
  FN void join_again() const {
    team.each(s.size(), [&](int p) {
      if (!small(p) || s.labels[rank[p]] != p) return;
      for (int at = p; at < s.size() && !region(at); ++at)
        if (small(at)) parent[at] = met(at, AGAIN, queue + atomicAdd(s.queued + 2, count[at]));
    });
  }

  FN void write() const {
    team.each(s.size(), [&](int p) {
      int at = piece[p];
      while (at != NONE && parent[at] != at) at = parent[at];
      s.labels[p] = s.start + (at == NONE ? NONE : rank[at]);
    });
  }

  static constexpr int STEPS = 10;

  FN void step(int i) const {
    if (i == 0) link();
    else if (i == 1) unite();
    else if (i == 2) flatten();
    else if (i == 3) cut();
    else if (i == 4) tally();
    else if (i == 5) accumulate();
    else if (i == 6) number();
    else if (i == 7) join();
    else if (i == 8) join_again();
    else write();
  }
};

#endif
