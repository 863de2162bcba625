// csrc/cuda/region.cu by itself, for sanitizers: every kernel on one small image, its tensors of
// exactly their size. Prints a sum of the results of each.

#include "region.cpp"

constexpr int BATCH = 2, CHANNELS = 35, HEIGHT = 9, WIDTH = 37, REGIONS = 5, PARTS = 3, BINS = 5;
constexpr int SIZE = HEIGHT * WIDTH;

template <class T>
using Values = std::vector<T>;

template <class Kernel, class... A>
void run(Kernel kernel, int blocks, int threads, std::size_t shared, A... arguments) {
  // Doubles, so that a value or two too many are seen.
  Values<double> room((shared + sizeof(double) - 1) / sizeof(double));
  void* addresses[] = {&arguments...};
  shim::launch(kernel, blocks, threads, room.data(), 0, addresses);
}

template <class T>
void print(const char* name, const Values<T>& values) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += double(values[i]) * double(i % 101 + 1);
  std::printf("%s %.17g\n", name, sum);
}

int main() {
  Values<int> labels(BATCH * SIZE), levels{1, 2};
  for (int i = 0; i < BATCH * SIZE; ++i) labels[i] = (i / 5 + i / 74 * 3) % (REGIONS + 1) - 1;
  Values<float> x(BATCH * CHANNELS * SIZE);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(i * 7919 % 1009) / 64;
  const int *l = labels.data(), *level = levels.data();
  const float* from = x.data();

  Values<int> rows(BATCH * HEIGHT), counts(BATCH * REGIONS), boxes(BATCH * REGIONS * 4);
  run(region_measure, BATCH * HEIGHT, WARP, 0, l, BATCH, HEIGHT, WIDTH, REGIONS, rows.data(),
      counts.data(), boxes.data());
  Values<int> before(BATCH * HEIGHT), runs(BATCH * SIZE * 3);
  for (int row = 0; row < BATCH * HEIGHT; ++row)
    before[row] = row % HEIGHT ? before[row - 1] + rows[row - 1] : 0;
  const int *starts = before.data(), *box = boxes.data();
  run(region_runs, 7, WARP, 0, l, BATCH, HEIGHT, WIDTH, REGIONS, starts, runs.data(), boxes.data());
  print("counts", counts), print("boxes", boxes), print("runs", runs);

  const int tiles = (CHANNELS + WARP - 1) / WARP;
  const i64 each = REGIONS * CHANNELS;
  for (int last = 0; last < 2; ++last) {
    Values<float> part(BATCH * PARTS * each), sums(BATCH * each), maxima(BATCH * each);
    Values<int> part_at(part.size()), at(sums.size());
    const float* parts = part.data();
    const int *parts_at = part_at.data(), *places = at.data();
    run(region_sum_float, BATCH * tiles * PARTS, WARP, WARP * (REGIONS + 1) * sizeof(Sum<float>),
        from, last, l, BATCH, CHANNELS, SIZE, REGIONS, PARTS, part.data());
    run(region_join_sum_float, 2, 64, 0, parts, BATCH, PARTS, each, sums.data());
    run(region_max_float, BATCH * tiles * PARTS, WARP, WARP * (REGIONS + 1) * 6, from, last, l,
        BATCH, CHANNELS, SIZE, REGIONS, PARTS, part.data(), part_at.data());
    run(region_join_max_float, 2, 64, 0, parts, parts_at, BATCH, PARTS, each, maxima.data(),
        at.data());
    print("sums", sums), print("maxima", maxima), print("at", at);

    Values<float> bins(BATCH * each * BINS), back(x.size()), spread(x.size()), placed(x.size());
    Values<int> bins_at(bins.size());
    run(region_sum_boxes_float, 9, WARP, 0, from, last, l, box, BATCH, CHANNELS, SIZE, WIDTH,
        REGIONS, level, sums.data());
    run(region_max_boxes_float, 9, WARP, 0, from, last, l, box, BATCH, CHANNELS, SIZE, WIDTH,
        REGIONS, level, BINS, 1, 3.0f, bins.data(), bins_at.data());
    const float* z = sums.data();
    run(region_unpool_float, 5, 64, 0, z, last, l, BATCH, CHANNELS, SIZE, REGIONS, spread.data());
    run(region_place_float, 5, 64, 0, z, places, last, l, BATCH, CHANNELS, SIZE, REGIONS,
        placed.data());
    run(region_scatter_float, 7, WARP, 64 * (WARP + 1) * sizeof(float), z, places, last, BATCH,
        CHANNELS, SIZE, REGIONS, 64, back.data());
    print("boxed sums", sums), print("bins", bins), print("bins at", bins_at);
    print("unpooled", spread), print("placed", placed), print("scattered", back);

    Values<float> resized(BATCH * each * 6);
    run(region_resize_float, 5, 64, 0, from, last, l, box, BATCH, CHANNELS, SIZE, WIDTH, REGIONS, 2,
        3, resized.data());
    z = resized.data();
    run(region_spread_float, 5, WARP, 0, z, last, l, box, BATCH, CHANNELS, HEIGHT, WIDTH, REGIONS,
        2, 3, back.data());
    print("resized", resized), print("spread", back);
  }
}
