// csrc/cuda/slic.cu by itself, for sanitizers: a small image through all steps, its memory of
// exactly its size. Prints a sum of the labels.

#include "slic.cpp"

constexpr int CHANNELS = 3, HEIGHT = 37, WIDTH = 45, CENTRES = 12, ITERATIONS = 2;
constexpr int SIZE = HEIGHT * WIDTH, CHUNKS = (SIZE + CHUNK - 1) / CHUNK;

template <class Kernel, class... A>
void run(Kernel kernel, int blocks, int threads, A... arguments) {
  void* addresses[] = {&arguments...};
  shim::launch(kernel, blocks, threads, nullptr, 0, addresses);
}

int main() {
  std::vector<unsigned char> image(CHANNELS * SIZE);
  for (int i = 0; i < CHANNELS * SIZE; ++i)
    image[i] = (unsigned char)(i / 11 % 3 * 70 + i * 7919 % 23);
  std::vector<float> colours(CHANNELS * SIZE), seeds(2 * CENTRES);
  std::vector<float> features(CENTRES * (3 + CHANNELS));
  for (int k = 0; k < CENTRES; ++k)
    seeds[2 * k] = 6 + k / 4 * 12, seeds[2 * k + 1] = 5 + k % 4 * 11;
  std::vector<int> boxes(3 * CENTRES * 4), work(6 * SIZE), counts(CHUNKS + 3), labels(SIZE);
  const float low = 0, range = 255, weight = 1.0f / 144;
  const int reach[] = {24, 22}, sizes[] = {40, 150};
  run(slic_load_uint8, 3, 64, static_cast<const unsigned char*>(image.data()), i64(0), i64(SIZE),
      i64(WIDTH), i64(1), &low, &range, 1, 0.1f, 1, CHANNELS, HEIGHT, WIDTH, colours.data());
  for (int zero = 0; zero < 2; ++zero) {
    run(slic_rgb, 1, THREADS, static_cast<const float*>(colours.data()), CHANNELS, HEIGHT, WIDTH,
        static_cast<const float*>(seeds.data()), &weight, static_cast<const int*>(reach),
        static_cast<const int*>(sizes), 1, CENTRES, ITERATIONS, zero, 0, 1, 0, features.data(),
        boxes.data(), work.data(), counts.data(), CHUNKS, labels.data(), 1, 0,
        1 + 2 * ITERATIONS + Connect::STEPS);
    long long sum = 0;
    for (int i = 0; i < SIZE; ++i) sum += labels[i] * (i % 101 + 1);
    std::printf("%lld\n", sum);
  }
}
