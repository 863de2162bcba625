// How often each pair of labels of two maps occurs.

#ifndef __CUDACC__

constexpr int STRETCH = 1024;  // pixels at a time, whose labels stay in the first cache

// Labels as int32: negative ones and `ignored` as −1, those beyond the last as `count`.
template <class T>
BODY void load_labels(const T* labels, int n, i64 ignored, int count, int* out) {
  for (int i = 0; i < n; ++i) {
    const i64 label = labels[i];
    const int known = label < count ? int(label) : count;
    out[i] = label < 0 || label == ignored ? -1 : known;
  }
}

// counts[SPLIT][slots] of at most STRETCH pixels, slots = clusters·classes + 3: the pairs, then
// pixels of a cluster too large, of a class too large, and ignored ones. Neighbours often have the
// same labels, and an increment waits for the last one of the same counter: hence SPLIT of each.
template <int SPLIT>
BODY void count_pairs(int* p, const int* t, int n, int clusters, int classes, u32* counts) {
  const int pairs = clusters * classes, slots = pairs + 3;
  for (int i = 0; i < n; ++i) {
    int slot = p[i] * classes + t[i];
    slot = t[i] == classes ? pairs + 1 : slot;
    slot = p[i] == clusters ? pairs : slot;
    p[i] = p[i] < 0 || t[i] < 0 ? pairs + 2 : slot;
  }
  int i = 0;
  for (; i + SPLIT <= n; i += SPLIT)
    for (int s = 0; s < SPLIT; ++s) ++counts[i64(s) * slots + p[i + s]];
  for (; i < n; ++i) ++counts[p[i]];
}

#endif
