// csrc/cuda/ncut.cu by itself, for sanitizers: two small images, their memory of exactly its size.
// Prints the sums.

#include "ncut.cpp"

constexpr int BATCH = 2, CLASSES = 19, CHANNELS = 2, HEIGHT = 6, WIDTH = 35, SIZE = HEIGHT * WIDTH;
constexpr int TILES = 2 * 2, PASSES = 2;

int main() {
  std::vector<float> p(BATCH * CLASSES * SIZE), colours(BATCH * CHANNELS * SIZE);
  for (size_t i = 0; i < p.size(); ++i) p[i] = float(i * 7919 % 101) / 101;
  for (size_t i = 0; i < colours.size(); ++i) colours[i] = float(i / 5 % 3 * 40 + i * 31 % 7);
  std::vector<float> filtered(p.size()), degree(BATCH * SIZE), parts(BATCH * 2 * CLASSES * TILES);
  const float *from = p.data(), *seen = colours.data();
  float *to = filtered.data(), *of_pixels = degree.data(), *sums = parts.data();
  int sizes[] = {CLASSES, CHANNELS, HEIGHT, WIDTH, 4, 25};
  float rates[] = {1e-3f, 0.0625f};
  i64 jobs = BATCH * TILES * PASSES;
  void* arguments[] = {&from,     &seen,     &sizes[0], &sizes[1], &sizes[2], &sizes[3],  &sizes[4],
                       &sizes[5], &rates[0], &rates[1], &jobs,     &to,       &of_pixels, &sums};
  shim::launch(ncut_float, 3, PIXELS, nullptr, 0, arguments);
  double sum = 0;
  for (float part : parts) sum += part;
  for (float part : filtered) sum += part;
  for (float part : degree) sum += part;
  std::printf("%.17g\n", sum);
}
