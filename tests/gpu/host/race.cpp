// csrc/cuda/iem.cu by itself, for sanitizers: a picture with a bright disc, from two centred
// squares. Prints the foreground's pixels and the errors. Its argument is the order of threads.

#include "iem.cpp"

int main(int count, char** words) {
  const int order = count > 1 ? std::atoi(words[1]) : 0;
  const int height = 85, width = 70, radius = 10, stride = 53, starts = 2;
  const int rows = 2 * radius + 1;
  std::vector<PIXEL> image(3 * height * width);
  std::vector<char> init(starts * height * width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const int at = y * width + x, dy = y - 40, dx = x - 30;
      for (int c = 0; c < 3; ++c)
        image[c * height * width + at] =
            PIXEL((dy * dy + dx * dx < 400 ? 150 : 60) + (at * 7919 + c * 31) % 40);
      for (int s = 0; s < starts; ++s)
        init[s * height * width + at] = std::abs(y - 42) < 15 + s && std::abs(x - 35) < 15 + s;
    }
  // Any weights do, as long as a row's sum is at most 1.
  std::vector<float> table(rows * stride);
  for (int i = 0; i < rows; ++i)
    for (int k = 0; k < rows; ++k) table[i * stride + 16 + k] = 1.0f / rows;

  i64 bytes = 0;
  auto run = [&](auto kernel, int threads, auto... arguments) {
    void* addresses[] = {&arguments...};
    shim::launch(kernel, 1, threads, nullptr, order, addresses);
  };
  run(iem_workspace, 1, 3, height, width, radius, BLOCK, static_cast<i64*>(&bytes));
  std::vector<char> memory(bytes + 128), masks(starts * height * width);
  std::vector<double> error(starts);
  std::vector<int> steps(starts), status(starts);
  char* from = memory.data() + 128 - (reinterpret_cast<std::uintptr_t>(memory.data()) & 127);
  run(iem, BLOCK, static_cast<const PIXEL*>(image.data()), i64(0), i64(height * width), i64(width),
      i64(1), 2.0f / 255, reinterpret_cast<const bool*>(init.data()), i64(0), i64(height * width),
      i64(width), i64(1), 1, starts, 3, height, width, table.data(), stride, table.data(), stride,
      radius, 32, 4, 0.001, int(SMOOTH_AUTHORS), 1, from, bytes,
      reinterpret_cast<bool*>(masks.data()), error.data(), steps.data(), status.data());
  int fore = 0;
  for (char pixel : masks) fore += pixel;
  std::printf("%d %.17g %.17g\n", fore, error[0], error[1]);
}
