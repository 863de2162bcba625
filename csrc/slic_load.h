// Pixels to the colours that SLIC compares: rescaled to 0 … 1, in CIE Lab where asked.
//
// Each step rounds to float32 where scikit-image's rgb2lab does, so that labels compare.

constexpr int CHUNK = 64;  // columns worked on together

FN double bits_to_double(u64 bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
FN u64 double_to_bits(double value) {
  u64 bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

// x to the power p for normal x > 0, to about 1e-12, without a branch.
FN double power(double x, double p) {
  const double shift = 0x1.8p52;           // adding it rounds to an integer, in the lowest bits
  const u64 half = 0x3fe6a09e667f3bcdull;  // of √½
  const u64 bits = double_to_bits(x);
  const u64 exponent = (bits - half + (1ull << 62)) >> 52;                     // biased by 1024
  const double m = bits_to_double(bits - (exponent << 52) + (1024ull << 52));  // √½ … √2
  const double e = bits_to_double(exponent | 0x4330000000000000ull) - (0x1p52 + 1024);
  const double s = (m - 1) / (m + 1), q = s * s;
  double log = 1.0 / 15;
  log = log * q + 1.0 / 13, log = log * q + 1.0 / 11, log = log * q + 1.0 / 9;
  log = log * q + 1.0 / 7, log = log * q + 1.0 / 5, log = log * q + 1.0 / 3, log = log * q + 1;
  const double t = p * (e + s * log * 2.8853900817779268147);
  const double n = t + shift;
  const double z = (t - (n - shift)) * 0.69314718055994530942;
  double exp = 1.0 / 3628800;
  exp = exp * z + 1.0 / 362880, exp = exp * z + 1.0 / 40320, exp = exp * z + 1.0 / 5040;
  exp = exp * z + 1.0 / 720, exp = exp * z + 1.0 / 120, exp = exp * z + 1.0 / 24;
  exp = exp * z + 1.0 / 6, exp = exp * z + 0.5, exp = exp * z + 1, exp = exp * z + 1;
  return bits_to_double(double_to_bits(exp) + (double_to_bits(n) << 52));
}

FN float linear(float v) {  // sRGB's gamma undone
  const float curve = float(power((v + 0.055f) / 1.055f, 2.4f));
  return v > 0.04045f ? curve : v / 12.92f;
}
FN float lightness(float v) {
  const float root = float(power(v, 1.0 / 3));
  return v > 0.008856f ? root : 7.787f * v + 16.0f / 116.0f;
}
FN float weigh(float r, float g, float b, float of_r, float of_g, float of_b, float white) {
  return (r * of_r + g * of_g + b * of_b) / white;
}

// CHUNK pixels from RGB to Lab (D65, 2°), in place.
BODY void to_lab(float* r, float* g, float* b) {
  for (float* plane : {r, g, b})
    for (int i = 0; i < CHUNK; ++i) plane[i] = linear(plane[i]);
  for (int i = 0; i < CHUNK; ++i) {
    const float x = weigh(r[i], g[i], b[i], 0.412453f, 0.357580f, 0.180423f, 0.95047f);
    const float y = weigh(r[i], g[i], b[i], 0.212671f, 0.715160f, 0.072169f, 1.0f);
    const float z = weigh(r[i], g[i], b[i], 0.019334f, 0.119193f, 0.950227f, 1.08883f);
    r[i] = x, g[i] = y, b[i] = z;
  }
  for (float* plane : {r, g, b})
    for (int i = 0; i < CHUNK; ++i) plane[i] = lightness(plane[i]);
  for (int i = 0; i < CHUNK; ++i) {
    const float x = r[i], y = g[i], z = b[i];
    r[i] = 116.0f * y - 16.0f, g[i] = 500.0f * (x - y), b[i] = 200.0f * (y - z);
  }
}

// Row y of an image, ((v − low) / range, Lab) · scale, to `out` of C planes and beyond the row's
// end zeros. `range` 0 leaves v − low.
template <class Pixel>
struct Source {
  const Pixel* image;
  const i64* stride;  // of channel, row and column
  float low, range;
  int lab;
  float scale;

  FN void chunk(int channel, int y, int x, int count, float* to) const {
    const Pixel* from = image + channel * stride[0] + y * stride[1] + x * stride[2];
    if (stride[2] == 1)
      for (int i = 0; i < count; ++i) to[i] = float(from[i]);
    else
      for (int i = 0; i < count; ++i) to[i] = float(from[i * stride[2]]);
    for (int i = count; i < CHUNK; ++i) to[i] = low;
    for (int i = 0; i < CHUNK; ++i) to[i] -= low;
    if (range != 0)
      for (int i = 0; i < CHUNK; ++i) to[i] /= range;
  }

  FN void row(int channels, int y, int width, int padded, float* out, i64 plane) const {
    alignas(64) float part[3][CHUNK];
    for (int x = 0; x < padded; x += CHUNK) {
      const int count = smaller(CHUNK, width - x), kept = smaller(CHUNK, padded - x);
      auto keep = [&](int channel, const float* from) {
        float* to = out + channel * plane + x;
        for (int i = 0; i < kept; ++i) to[i] = from[i] * scale;
      };
      if (lab) {
        for (int c = 0; c < 3; ++c) chunk(c, y, x, count, part[c]);
        to_lab(part[0], part[1], part[2]);
        for (int c = 0; c < 3; ++c) keep(c, part[c]);
      } else {
        for (int c = 0; c < channels; ++c) chunk(c, y, x, count, part[0]), keep(c, part[0]);
      }
    }
  }
};
