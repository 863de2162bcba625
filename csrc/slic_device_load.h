// Pixels to the colours that SLIC compares, on a GPU: the arithmetic of slic_load.h, one at a time.

#ifdef __CUDACC__

// The curves of sRGB and of Lab, in float64 as the host's, which are rounded to float32 alike.
FN float linear(float v) {
  return v > 0.04045f ? float(pow(double((v + 0.055f) / 1.055f), double(2.4f))) : v / 12.92f;
}
FN float lightness(float v) {
  return v > 0.008856f ? float(cbrt(double(v))) : 7.787f * v + 16.0f / 116.0f;
}

// a·weight + sum, rounded once, as libraries of matrix products have it.
FN float fused(float a, float weight, float sum) {
  return float(double(a) * double(weight) + double(sum));
}
FN float weigh(float r, float g, float b, float of_r, float of_g, float of_b) {
  return fused(b, of_b, fused(g, of_g, r * of_r));
}

FN void to_lab(float* v) {
  const float r = linear(v[0]), g = linear(v[1]), b = linear(v[2]);
  const float x = lightness(weigh(r, g, b, 0.412453f, 0.357580f, 0.180423f) / 0.95047f);
  const float y = lightness(weigh(r, g, b, 0.212671f, 0.715160f, 0.072169f));
  const float z = lightness(weigh(r, g, b, 0.019334f, 0.119193f, 0.950227f) / 1.08883f);
  v[0] = 116.0f * y - 16.0f;
  v[1] = 500.0f * (x - y);
  v[2] = 200.0f * (y - z);
}

// Images (B,C,H,W) of any strides to ((v − low) / range, Lab) · scale; range 0 leaves v − low.
template <class Pixel>
FN void load_colours(const Pixel* images, const i64* stride, const float* low, const float* range,
                     int lab, float scale, int batch, int channels, int height, int width,
                     float* out) {
  const i64 size = i64(height) * width;
  for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < batch * size;
       i += i64(gridDim.x) * blockDim.x) {
    const i64 image = i / size, pixel = i % size;
    const Pixel* from =
        images + image * stride[0] + pixel / width * stride[2] + pixel % width * stride[3];
    float* to = out + image * channels * size + pixel;
    auto value = [&](int c) {
      const float v = float(from[c * stride[1]]) - low[image];
      return range[image] != 0 ? v / range[image] : v;
    };
    if (lab) {
      float v[3] = {value(0), value(1), value(2)};
      to_lab(v);
      for (int c = 0; c < 3; ++c) to[c * size] = v[c] * scale;
    } else {
      for (int c = 0; c < channels; ++c) to[c * size] = value(c) * scale;
    }
  }
}

#endif
