// Pixels to the colours that SLIC compares: rescaled to 0 … 1, in CIE Lab where asked.
//
// Each step rounds to float32 where scikit-image's rgb2lab does, so that labels compare.

constexpr int CHUNK = 64;  // columns worked on together

// Half a pack, for as many doubles fill a register.
constexpr int HALF = LANES / 2;
typedef double Doubles __attribute__((vector_size(8 * HALF)));
typedef u64 Longs __attribute__((vector_size(8 * HALF)));
typedef float Halfs __attribute__((vector_size(4 * HALF)));
typedef float LooseHalfs __attribute__((vector_size(4 * HALF), aligned(4), may_alias));

FN Halfs load_half(const float* p) { return *reinterpret_cast<const LooseHalfs*>(p); }
FN void store_half(float* p, Halfs v) { *reinterpret_cast<LooseHalfs*>(p) = v; }

// x to the power p for normal x > 0, to about 1e-9, far below what float32 shows. Here products may
// well be fused with sums (slic.cpp), at two thirds of the time.
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
__attribute__((noinline)) Doubles power(Doubles x, double p) {
  const double shift = 0x1.8p52;           // adding it rounds to an integer, in the lowest bits
  const u64 half = 0x3fe6a09e667f3bcdull;  // of √½
  const u64 one = 1024ull << 52;
  const Longs bits = (Longs)x;
  const Longs exponent = (bits - half + (1ull << 62)) >> 52;   // biased by 1024
  const Doubles m = (Doubles)(bits - (exponent << 52) + one);  // √½ … √2
  const Doubles e = (Doubles)(exponent | 0x4330000000000000ull) - (0x1p52 + 1024);
  const Doubles s = (m - 1) / (m + 1), q = s * s;
  Doubles log = q * (1.0 / 11) + 1.0 / 9;
  for (const double odd : {7.0, 5.0, 3.0, 1.0}) log = log * q + 1 / odd;
  const Doubles t = p * (e + s * log * 2.8853900817779268147);
  const Doubles n = t + shift;
  const Doubles z = (t - (n - shift)) * 0.69314718055994530942;
  Doubles exp = z * (1.0 / 40320) + 1.0 / 5040;
  for (const double factorial : {720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0})
    exp = exp * z + 1 / factorial;
  return (Doubles)((Longs)exp + ((Longs)n << 52));
}
#pragma GCC pop_options

// vᵖ of sRGB's and of Lab's curve above `knee`, else what `straight` holds.
FN Halfs curve(Halfs v, Halfs base, double p, float knee, Halfs straight) {
  const Halfs curved =
      __builtin_convertvector(power(__builtin_convertvector(base, Doubles), p), Halfs);
  return v > knee ? curved : straight;
}
FN Halfs linear(Halfs v) { return curve(v, (v + 0.055f) / 1.055f, 2.4f, 0.04045f, v / 12.92f); }
FN Halfs lightness(Halfs v) { return curve(v, v, 1.0 / 3, 0.008856f, 7.787f * v + 16.0f / 116.0f); }

// a·weight + sum, rounded once, as libraries of matrix products have it.
FN Halfs fused(Halfs a, float weight, Halfs sum) {
  const Doubles product = __builtin_convertvector(a, Doubles) * double(weight);
  return __builtin_convertvector(product + __builtin_convertvector(sum, Doubles), Halfs);
}
FN Halfs weigh(Halfs r, Halfs g, Halfs b, float of_r, float of_g, float of_b) {
  return fused(b, of_b, fused(g, of_g, r * of_r));
}

// CHUNK pixels from RGB to Lab (D65, 2°), in place.
BODY void to_lab(float* r, float* g, float* b) {
  for (int i = 0; i < CHUNK; i += HALF) {
    const Halfs lr = linear(load_half(r + i)), lg = linear(load_half(g + i));
    const Halfs lb = linear(load_half(b + i));
    const Halfs x = lightness(weigh(lr, lg, lb, 0.412453f, 0.357580f, 0.180423f) / 0.95047f);
    const Halfs y = lightness(weigh(lr, lg, lb, 0.212671f, 0.715160f, 0.072169f));
    const Halfs z = lightness(weigh(lr, lg, lb, 0.019334f, 0.119193f, 0.950227f) / 1.08883f);
    store_half(r + i, 116.0f * y - 16.0f);
    store_half(g + i, 500.0f * (x - y));
    store_half(b + i, 200.0f * (y - z));
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
