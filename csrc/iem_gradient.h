// Iem<C>: the gradient at the boundary.

// w_c and t of one pack into the ring, and their part in the sums.
template <int C>
FN void Iem<C>::measure_near(int y, int pack, Part& part, Partial* partial) const {
  const u32 bits = pack_bits(s.mask + i64(y) * p.words(), pack);
  const Ints in_fore = lanes_set(bits);
  const Ints inside = lanes_set(u32(low_bits(p.width - pack * LANES)));
  const int* known = s.known + cell(y, pack, planes());
  const int* total = s.total + cell(y, pack, planes());
  // The other layer's sums: what is known in the background, the rest in the foreground.
  auto other = [&](int c) {
    const Ints sum = load(known + c * LANES);
    return bits ? in_fore ? load(total + c * LANES) - sum : sum : sum;
  };
  const Floats zero{};
  auto by_layer = [&](float of_fore, float of_back) {
    return in_fore ? zero + of_fore : zero + of_back;
  };
  const Ints mass = other(channels());
  const Ints reached = mass > p.least;
  const Floats inverse = 1.0f / (as_floats(mass, reached) + by_layer(back.eps, fore.eps));
  const Floats share = inside ? inverse * by_layer(fore.share, -back.share) : zero;
  const float* x = s.x + cell(y, pack, channels());
  float* to = ring_row(y) + pack * planes() * LANES;
  Floats miss{}, t{};
  for (int c = 0; c < channels(); ++c) {
    const Colour& colour = s.colour[c];
    const Floats eps = by_layer(colour.back_eps, colour.fore_eps);
    const Floats psi = (as_floats(other(c), reached) + eps) * inverse;
    const Floats residual = load(x + c * LANES) - psi;
    const Floats w = residual > 0 ? share : residual < 0 ? -share : zero;
    miss += magnitude(residual);
    t += w * psi;
    store(to + c * LANES, w);
    partial[c * b.threads()].part += w;
  }
  store(to + channels() * LANES, t);
  part.t += t;
  part.fore_miss += in_fore & inside ? miss : zero;
  part.back_miss += ~in_fore & inside ? miss : zero;

  if (!(s.at[pack * p.column_words() + (y >> 6)] >> (y & 63) & 1)) return;
  // A candidate's error if it changed layers, too.
  const Ints own_mass = load(total + channels() * LANES) - mass;
  const Ints own_reached = own_mass > p.least;
  const Floats own_inverse =
      1.0f / (as_floats(own_mass, own_reached) + by_layer(fore.eps, back.eps));
  Floats own_miss{};
  for (int c = 0; c < channels(); ++c) {
    const Colour& colour = s.colour[c];
    const Ints own = load(total + c * LANES) - other(c);
    const Floats eps = by_layer(colour.fore_eps, colour.back_eps);
    const Floats psi = (as_floats(own, own_reached) + eps) * own_inverse;
    own_miss += magnitude(load(x + c * LANES) - psi);
  }
  store(s.pull + cell(y, pack, 1), in_fore ? miss * fore.share - own_miss * back.share
                                           : own_miss * fore.share - miss * back.share);
}

// Far packs are whole and, from first to last, of one layer: ψ is the other's mean.
template <int C>
FN void Iem<C>::measure_far(int pack, int first, int last, Part& part, Partial* partial) const {
  const bool in_fore = pack_bits(s.mask + i64(first) * p.words(), pack) & 1;
  for (int c = 0; c < channels(); ++c) {
    const float psi = in_fore ? s.colour[c].back_mean : s.colour[c].fore_mean;
    Floats miss{};
    Ints signs{};
    for (int y = first; y <= last; ++y) {
      const Floats residual = load(s.x + cell(y, pack, channels()) + c * LANES) - psi;
      miss += magnitude(residual);
      signs += sign(residual);
    }
    Partial& sums = partial[c * b.threads()];
    (in_fore ? part.fore_miss : part.back_miss) += miss;
    (in_fore ? sums.fore_sign : sums.back_sign) += lane_sum(signs);
  }
}

template <int C>
FN void Iem<C>::measure(int y0, int rows, Misses& sums, Partial* partial) const {
  Part part{};
  each_pack(s.near, y0, rows, [&](int y, int pack) { measure_near(y, pack, part, partial); });
  b.each_run(s.far, p.packs(), p.column_words(), y0, rows,
             [&](int pack, int first, int last) { measure_far(pack, first, last, part, partial); });
  sums.fore += lane_sum(part.fore_miss);
  sums.back += lane_sum(part.back_miss);
  sums.t += lane_sum(part.t);
  add_parts(partial);
}

// N planes of the ring from c, filtered down the columns at one pack of rows y and y+1. Where a
// row of `down` ends the table goes on with zeros.
template <int C>
template <int N>
FN void Iem<C>::filter_down(int y, int pack, int c, float* out, float* next_out) const {
  const int next = y + 1 < p.height ? y + 1 : y;
  const int top = y < p.fy.radius ? 0 : y - p.fy.radius;
  const int bottom = next + p.fy.radius < p.height ? next + p.fy.radius : p.height - 1;
  const float* down = p.fy.row(y) + p.fy.radius - y;
  const float* next_down = p.fy.row(next) + p.fy.radius - next;
  Floats sum[N] = {}, next_sum[N] = {};
  for (int k = top; k <= bottom; ++k) {
    const float* row = ring_row(k) + (pack * planes() + c) * LANES;
    for (int n = 0; n < N; ++n) {
      const Floats value = held(load(row + n * LANES));
      sum[n] += down[k] * value;
      next_sum[n] += next_down[k] * value;
    }
  }
  for (int n = 0; n < N; ++n) {
    const int slot = (c + n) * s.gathered_stride + s.gathered_pad + pack * LANES;
    store(out + slot, sum[n]);
    store(next_out + slot, next_sum[n]);
  }
}

// Σ_c x_c (K*w_c) − K*t at one pixel.
template <int C>
FN float Iem<C>::filter_across(int y, int x, const float* gathered) const {
  const float* across = p.fx.row(x);
  const float* from = gathered + s.gathered_pad + x - p.fx.radius;
  const float* value = pixel(y, x);
  Floats sum{};
  for (int k = 0; k <= 2 * p.fx.radius; k += LANES) {
    Floats column = -load(from + channels() * s.gathered_stride + k);
    for (int c = 0; c < channels(); ++c)
      column += value[c * LANES] * load(from + c * s.gathered_stride + k);
    sum += load(across + k) * column;
  }
  return lane_sum(sum);
}

// The same at every pixel of a pack that is r pixels from either side.
template <int C>
FN Floats Iem<C>::filter_pack(int y, int pack, const float* gathered) const {
  const float* across = p.fx.row(p.fx.radius);
  const float* from = gathered + s.gathered_pad + pack * LANES - p.fx.radius;
  const float* x = s.x + cell(y, pack, channels());
  Floats sum{};
  for (int c = 0; c <= channels(); ++c) {
    const float* plane = from + c * s.gathered_stride;
    Floats even{}, odd{};
    int k = 0;
    for (; k < 2 * p.fx.radius; k += 2) {
      even += across[k] * load(plane + k);
      odd += across[k + 1] * load(plane + k + 1);
    }
    even += across[k] * load(plane + k) + odd;
    sum += c < channels() ? load(x + c * LANES) * even : -even;
  }
  return sum;
}

// The gradient of the candidates in rows, but for `slope` and `constant`, into `pull`.
template <int C>
FN void Iem<C>::gather(int y0, int rows) const {
  auto gathered = [&](int y) { return s.gathered + i64(y - y0) * planes() * s.gathered_stride; };
  each_pair(s.reach, y0, rows, [&](int y, int pack) {
    float *out = gathered(y), *next = gathered(y + 1);
    int c = 0;
    for (; c + 4 <= planes(); c += 4) filter_down<4>(y, pack, c, out, next);
    for (; c < planes(); ++c) filter_down<1>(y, pack, c, out, next);
  });
  b.sync();
  each_pack(s.at, y0, rows, [&](int y, int pack) {
    float* pull = s.pull + cell(y, pack, 1);
    u32 bits = pack_bits(s.candidates + i64(y) * p.words(), pack);
    const int first = pack * LANES, end = first + LANES;
    if (count_bits(bits) > 2 && first >= p.fx.radius && end + p.fx.radius <= p.width) {
      store(pull, load(pull) + filter_pack(y, pack, gathered(y)));
      return;
    }
    for (; bits; bits &= bits - 1) {
      const int l = lowest_bit(bits);
      pull[l] += filter_across(y, first + l, gathered(y));
    }
  });
}

// `pull`, `slope` and `constant` of every candidate's gradient, and the error.
template <int C>
BODY void Iem<C>::differentiate() {
  Partial* partial = clear_partial();
  Misses sums{};
  sweep([&](int y, int rows) { measure(y, rows, sums, partial); },
        [&](int y, int rows) { gather(y, rows); });

  const double rest = area() - count;
  const double fore_error = b.sum(sums.fore) * fore.share;
  const double back_error = b.sum(sums.back) * back.share;
  error = fore_error + back_error;
  // Far from the boundary w = ±share/(ε·area of the other layer) and ψ its mean.
  const double fore_far = fore.share / back.eps, back_far = back.share / fore.eps;
  double t = b.sum(sums.t), deviation = 0;
  for (int c = 0; c < channels(); ++c) {
    Colour& colour = s.colour[c];
    const Partial& of = partial[c * b.threads()];
    const double in_fore = fore_far * b.sum(double(of.fore_sign));
    const double in_back = -back_far * b.sum(double(of.back_sign));
    const double weight = b.sum(of.sum) + in_fore + in_back;
    t += in_fore * colour.back_mean + in_back * colour.fore_mean;
    const double shift = double(colour.back_mean) - colour.fore_mean;
    deviation += shift * (double(colour.back_mean) + colour.fore_mean);
    if (b.thread() == 0) colour.slope = float(MEAN_WEIGHT * weight - 2 * p.lamb * shift);
  }
  constant = float(-MEAN_WEIGHT * t - fore_error / count + back_error / rest + p.lamb * deviation);
  b.sync();
}
