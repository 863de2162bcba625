// csrc/cuda/spectra.cu by itself, for sanitizers: three planes there and back, memory of exactly
// its size. Prints the sum of their spectra.

#include "spectra.cpp"

constexpr int PLANES = 3, HEIGHT = 8, WIDTH = 11, SHIFT = 2, NUMBERS = 2 * ROWS * WIDE;

int main() {
  std::vector<float> x(PLANES * HEIGHT * WIDTH), back(x.size()), hat(PLANES * NUMBERS);
  std::vector<float> roots;
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i * 7919 % 101) / 101;
  for (int n : {ROWS, COLUMNS})
    for (int i = 0; i < n; ++i)
      for (double turn : {0.0, M_PI / 2}) roots.push_back(float(cos(2 * M_PI * i / n + turn)));
  std::vector<double> shared((NUMBERS + roots.size()) / 2);
  const float *from = x.data(), *spectra = hat.data(), *table = roots.data();
  float *to = hat.data(), *pixels = back.data();
  int height = HEIGHT, width = WIDTH, shift = SHIFT;
  i64 count = PLANES, inner = 1, stride = HEIGHT * WIDTH, none = 0;
  void* forth_arguments[] = {&from, &height, &width, &shift, &table, &count, &to};
  shim::launch(plane_spectra_float, 2, 64, shared.data(), 0, forth_arguments);
  void* back_arguments[] = {&spectra, &height, &width,  &shift, &table,
                            &count,   &inner,  &stride, &none,  &pixels};
  shim::launch(plane_pixels_float, 2, 64, shared.data(), 0, back_arguments);
  double sum = 0;
  for (float number : hat) sum += number;
  for (size_t i = 0; i < x.size(); ++i)
    if (std::abs(back[i] - x[i]) > 1e-5f) std::printf("%zu: %g, not %g\n", i, back[i], x[i]);
  std::printf("%.17g\n", sum);
}
