// csrc/cuda/box.cu by itself, for sanitizers: two small images, their memory of exactly its size.
// Prints the sums.

#include "box.cpp"

constexpr int BATCH = 2, CLASSES = 7, OTHERS = 3, HEIGHT = 5, SIZE = HEIGHT * WIDTH;
constexpr int TILES = 2, PASSES = 2;

int main() {
  std::vector<float> p(BATCH * CLASSES * SIZE), q(BATCH * OTHERS * SIZE), weights(CLASSES * OTHERS);
  for (std::vector<float>* x : {&p, &q, &weights})
    for (size_t i = 0; i < x->size(); ++i) (*x)[i] = float(i * 7919 % 101) / 101;
  std::vector<float> parts(BATCH * TILES * (ACROSS / OWN) * CLASSES * OTHERS), mixed(p.size());
  const int floats = 2 * TALL * (PITCH + WIDE) + OTHERS * GROUPS * PLANES;
  std::vector<double> shared((floats + 1) / 2);
  const float *left = p.data(), *right = q.data(), *of = weights.data();
  float *to = parts.data(), *out = mixed.data();
  int sizes[] = {CLASSES, OTHERS, HEIGHT};
  i64 jobs = BATCH * TILES * PASSES;
  void* join[] = {&left, &right, &sizes[0], &sizes[1], &sizes[2], &jobs, &to};
  shim::launch(box_join_float, 3, THREADS, shared.data(), 0, join);
  void* mix[] = {&of, &right, &sizes[0], &sizes[1], &sizes[2], &jobs, &out};
  shim::launch(box_mix_float, 3, THREADS, shared.data(), 0, mix);
  double sum = 0;
  for (float part : parts) sum += part;
  for (float number : mixed) sum += number;
  std::printf("%.17g\n", sum);
}
