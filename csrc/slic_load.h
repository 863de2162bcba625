// Pixels to the colours that SLIC compares: rescaled to 0 … 1, in CIE Lab where asked.
//
// Each step rounds to float32 where scikit-image's rgb2lab does, so that labels compare.

constexpr int CHUNK = 64;  // columns worked on together

// The least and the most of `count` values; NaN if one is.
template <class Pixel>
BODY void find_extremes(const Pixel* values, i64 count, float& least, float& most) {
  i64 i = 0;
  float low = INFINITE, high = -INFINITE;
  if constexpr (sizeof(Pixel) == 1) {
    Pixel lowest = 255, highest = 0;
    for (; i < count; ++i) {
      lowest = values[i] < lowest ? values[i] : lowest;
      highest = values[i] > highest ? values[i] : highest;
    }
    low = lowest, high = highest;
  } else {
    Floats lows = Floats{} + low, highs = Floats{} + high;
    Ints spoilt = {};
    for (; i + LANES <= count; i += LANES) {
      const Floats v = load(values + i);
      lows = v < lows ? v : lows, highs = v > highs ? v : highs;
      spoilt |= v != v;
    }
    low = lane_min(lows), high = -lane_min(-highs);
    bool bad = bits_of(spoilt) != 0;
    for (; i < count; ++i) {
      low = values[i] < low ? values[i] : low, high = values[i] > high ? values[i] : high;
      bad |= values[i] != values[i];
    }
    if (bad) low = high = __builtin_nanf("");
  }
  least = low, most = high;
}

// Half a pack, for as many doubles fill a register.
constexpr int HALF = LANES / 2;
typedef double Doubles __attribute__((vector_size(8 * HALF)));
typedef int Ranks __attribute__((vector_size(4 * HALF)));
typedef float Halfs __attribute__((vector_size(4 * HALF)));
typedef float LooseHalfs __attribute__((vector_size(4 * HALF), aligned(4), may_alias));

FN Halfs load_half(const float* p) { return *reinterpret_cast<const LooseHalfs*>(p); }
FN void store_half(float* p, Halfs v) { *reinterpret_cast<LooseHalfs*>(p) = v; }

// Roots by Newton's method: from a guess by the exponent in float32, then once in float64 to about
// 1e-9, far below what float32 shows. Here products may well be fused with sums (slic.cpp).
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")

// CHUNK values: v ← ∛v for normal v > 0.
BODY void cube_roots(float* v) {
  for (int i = 0; i < CHUNK; i += HALF) {
    const Halfs x = load_half(v + i);
    Halfs r = (Halfs)(0x54a232b2 - (Ranks)x / 3);  // x^(−1/3)
    for (int step = 0; step < 2; ++step) r = r * (4 - x * r * r * r) * (1.0f / 3);
    const Doubles root = __builtin_convertvector(r, Doubles), square = root * root;
    const Doubles product = __builtin_convertvector(x, Doubles) * square;
    const Doubles d = product * root - 1;
    store_half(v + i,
               __builtin_convertvector(product - product * d * (2.0 / 3 - 5.0 / 9 * d), Halfs));
  }
}

// CHUNK values: v ← v^2.4f for v from 0.05 to 1, where 2.4f = 2.4 + 9.5e-8.
BODY void powers(float* v) {
  for (int i = 0; i < CHUNK; i += HALF) {
    const Halfs x = load_half(v + i);
    Halfs r = (Halfs)(0x4c2ba59b - (Ranks)x / 5);  // x^(−1/5)
    for (int step = 0; step < 2; ++step) {
      const Halfs square = r * r;
      r = r * (6 - x * r * square * square) * (1.0f / 5);
    }
    const Doubles root = __builtin_convertvector(r, Doubles), square = root * root;
    const Doubles product = __builtin_convertvector(x, Doubles) * root;
    const Doubles d = product * square * square - 1;
    const Doubles log =  // of x, to 2e-3
        7.68841 + root * (-11.07881 + root * (4.03219 - 0.64310 * root));
    const Doubles cube = product * product * product;
    const Doubles more = d * (0.48 * d - 0.6) + (double(2.4f) - 2.4) * log;
    store_half(v + i, __builtin_convertvector(cube + cube * more, Halfs));
  }
}
#pragma GCC pop_options

// a·weight + sum, rounded once, as libraries of matrix products have it.
FN Floats fused(Floats a, float weight, Floats sum) {
#if FASTSEG_X86 && FASTSEG_LANES == 16
  return (Floats)_mm512_fmadd_ps((__m512)a, _mm512_set1_ps(weight), (__m512)sum);
#elif FASTSEG_X86 && FASTSEG_LANES == 8
  return (Floats)_mm256_fmadd_ps((__m256)a, _mm256_set1_ps(weight), (__m256)sum);
#else
  Floats result;
  for (int i = 0; i < LANES; ++i) result[i] = float(double(a[i]) * double(weight) + double(sum[i]));
  return result;
#endif
}
FN Floats weigh(Floats r, Floats g, Floats b, float of_r, float of_g, float of_b) {
  return fused(b, of_b, fused(g, of_g, r * of_r));
}

// CHUNK values of sRGB in 0 … 1 to linear light.
BODY void to_linear(float* v) {
  alignas(64) float curved[CHUNK];
  for (int i = 0; i < CHUNK; i += LANES) store(curved + i, (load(v + i) + 0.055f) / 1.055f);
  powers(curved);
  for (int i = 0; i < CHUNK; i += LANES) {
    const Floats at = load(v + i);
    store(v + i, at > 0.04045f ? load(curved + i) : at / 12.92f);
  }
}

// CHUNK pixels from linear RGB to Lab (D65, 2°), in place.
BODY void to_lab(float* r, float* g, float* b) {
  alignas(64) float f[3][CHUNK];
  for (int i = 0; i < CHUNK; i += LANES) {
    const Floats red = load(r + i), green = load(g + i), blue = load(b + i);
    store(r + i, weigh(red, green, blue, 0.412453f, 0.357580f, 0.180423f) / 0.95047f);
    store(g + i, weigh(red, green, blue, 0.212671f, 0.715160f, 0.072169f));
    store(b + i, weigh(red, green, blue, 0.019334f, 0.119193f, 0.950227f) / 1.08883f);
  }
  auto curve = [&](float* at, float* to) {
    for (int i = 0; i < CHUNK; ++i) to[i] = at[i];
    cube_roots(to);
    for (int i = 0; i < CHUNK; i += LANES) {
      const Floats v = load(at + i);
      store(to + i, v > 0.008856f ? load(to + i) : 7.787f * v + 16.0f / 116.0f);
    }
  };
  curve(r, f[0]), curve(g, f[1]), curve(b, f[2]);
  for (int i = 0; i < CHUNK; i += LANES) {
    const Floats x = load(f[0] + i), y = load(f[1] + i), z = load(f[2] + i);
    store(r + i, 116.0f * y - 16.0f);
    store(g + i, 500.0f * (x - y));
    store(b + i, 200.0f * (y - z));
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
  float table[sizeof(Pixel) == 1 ? 256 : 1];  // of every byte what `value` makes of it

  FN Source(const Pixel* image, const i64* stride, float low, float range, int lab, float scale)
      : image(image), stride(stride), low(low), range(range), lab(lab), scale(scale) {
    if (sizeof(Pixel) > 1) return;
    for (int i = 0; i < 256; ++i) table[i] = float(i);
    for (int i = 0; i < 256; i += CHUNK) value(table + i);
  }

  // CHUNK values, in place: rescaled, and in linear light if Lab is to come.
  FN void value(float* at) const {
    for (int i = 0; i < CHUNK; ++i) at[i] -= low;
    if (range != 0)
      for (int i = 0; i < CHUNK; ++i) at[i] /= range;
    if (lab) to_linear(at);
  }

  FN void chunk(int channel, int y, int x, int count, float* to) const {
    const Pixel* from = image + channel * stride[0] + y * stride[1] + x * stride[2];
    if (sizeof(Pixel) == 1) {
      for (int i = 0; i < count; ++i) to[i] = table[(unsigned char)(from[i * stride[2]])];
      for (int i = count; i < CHUNK; ++i) to[i] = 0;
      return;
    }
    if (stride[2] == 1)
      for (int i = 0; i < count; ++i) to[i] = float(from[i]);
    else
      for (int i = 0; i < count; ++i) to[i] = float(from[i * stride[2]]);
    for (int i = count; i < CHUNK; ++i) to[i] = low;
    value(to);
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
