// csrc/cuda/ncut.cu by itself, for sanitizers: two small images, their memory of exactly its size.
// Prints the sums.

#define PLANES 1
#define GROUPS 1
#define CHANNELS 2
#define SQUARE 33  // whole squares
#include "ncut.cpp"

constexpr int BATCH = 2, CLASSES = 5, HEIGHT = 9, WIDTH = 35, SIZE = HEIGHT * WIDTH;
constexpr int REACH = 5, MARGIN = 16, PITCH = 2 * 32 + 2 * MARGIN;  // more than one square
constexpr int BLOCKS = 2, PASSES = 2;

int main() {
  std::vector<float> p(BATCH * CLASSES * SIZE);
  for (size_t i = 0; i < p.size(); ++i) p[i] = float(i * 7919 % 101) / 101;
  std::vector<float> colours(BATCH * CHANNELS * (HEIGHT + 2 * MARGIN) * PITCH, INFINITY);
  for (int plane = 0; plane < BATCH * CHANNELS; ++plane)
    for (int i = 0; i < SIZE; ++i) {
      const int row = plane * (HEIGHT + 2 * MARGIN) + MARGIN + i / WIDTH;
      colours[row * PITCH + MARGIN + i % WIDTH] = float(i / 5 % 3 * 40 + i * 31 % 7);
    }
  std::vector<float> filtered(p.size()), degree(BATCH * SIZE);
  std::vector<float> parts(2 * BATCH * BLOCKS * CREWS * CLASSES);
  const float *from = p.data(), *seen = colours.data();
  float *to = filtered.data(), *of_pixels = degree.data(), *sums = parts.data();
  int sizes[] = {CLASSES, HEIGHT, WIDTH, PITCH, MARGIN, REACH, (REACH + 1) * (REACH + 1), 0};
  float rates[] = {1e-3f, 0.0625f};
  i64 jobs = BATCH * BLOCKS * PASSES;
  void* arguments[] = {&from,     &seen,     &sizes[0],  &sizes[1], &sizes[2], &sizes[3],
                       &sizes[4], &sizes[5], &sizes[6],  &sizes[7], &rates[0], &rates[1],
                       &jobs,     &to,       &of_pixels, &sums};
  shim::launch(ncut_float, 3, Shape<float>::THREADS, nullptr, 0, arguments);
  double sum = 0;
  for (float part : parts) sum += part;
  for (float part : filtered) sum += part;
  for (float part : degree) sum += part;
  std::printf("%.17g\n", sum);
}
