// Bindings of csrc/joint.h.

#define FASTSEG_KERNELS "joint_kernels.h"
#include "each_isa.h"

namespace {

using i64 = long long;

// --- box_sum ------------------------------------------------------------------------------------

template <class T>
void box_sum_as(const py::buffer& src_buffer, const py::buffer& dst_buffer, int radius,
                int threads) {
  const auto src = array<T>("src", src_buffer, 3);
  const auto dst = array<T>("dst", dst_buffer, 3, WRITE);
  need(src.info.shape == dst.info.shape, "`dst` must have the shape of `src`");
  need(radius >= 0, "`radius` must be at least 0");
  const std::int64_t height = src.size(1), width = src.size(2), plane = height * width;
  need(plane > 0, "`src` must not be empty");
  hint_large(dst.data(), src.size(0) * plane * std::int64_t(sizeof(T)));
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const auto bytes = K::template box_workspace<T>(int(height), int(width), radius);
    share(src.size(0), threads, bytes, [&](std::int64_t i, char* memory) {
      K::box(src.data() + i * plane, dst.data() + i * plane, int(height), int(width), radius,
             memory);
    });
  });
}

void box_sum(const py::buffer& src, const py::buffer& dst, int radius, int threads) {
  (holds<float>(src.request()) ? box_sum_as<float> : box_sum_as<double>)(src, dst, radius, threads);
}

// --- displaced_joint ----------------------------------------------------------------------------

template <class T>
void displaced_joint_as(const py::buffer& p_buffer, const py::buffer& q_buffer,
                        const py::buffer& joint_buffer, int threads) {
  const auto p = array<T>("p", p_buffer, 4);
  const auto q = array<T>("q", q_buffer, 4);
  const auto joint = array<double>("joint", joint_buffer, 5, WRITE);
  const std::int64_t parts = joint.size(0), side = joint.size(1);
  const std::int64_t step = joint.size(3) * joint.size(4);
  need(p.size(0) == q.size(0) && p.size(2) == q.size(2) && p.size(3) == q.size(3),
       "`q` must have the B, H and W of `p`");
  need(parts > 0 && side % 2 == 1 && joint.size(2) == side && joint.size(3) == p.size(1) &&
           joint.size(4) == q.size(1),
       "`joint` must have shape (parts, 2T+1, 2T+1, K, L)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const typename K::Problem fields{int(p.size(0)), int(p.size(1)), int(q.size(1)),
                                     int(p.size(2)), int(p.size(3)), int(side / 2)};
    share(parts * side, threads, K::template products_workspace<T>(fields),
          [&](std::int64_t task, char* memory) {
            const std::int64_t part = task / side, dy = task % side;
            K::products(fields, p.data(), q.data(), int(dy - side / 2), int(part), int(parts),
                        memory, joint.data() + task * side * step);
          });
  });
}

void displaced_joint(const py::buffer& p, const py::buffer& q, const py::buffer& joint,
                     int threads) {
  const auto run =
      holds<float>(p.request()) ? displaced_joint_as<float> : displaced_joint_as<double>;
  run(p, q, joint, threads);
}

// --- spectra ------------------------------------------------------------------------------------

// A spectrum (B,K,n,⌊m/2⌋+1,2), of any strides down to its rows.
template <class T>
Array<T> spectrum(const char* name, const py::buffer& buffer, Use use = READ_STRIDED) {
  auto a = array<T>(name, buffer, 5, use);
  need(a.size(4) == 2 && a.stride[4] == 1 && a.stride[3] == 2,
       std::string("`") + name + "` must have shape (B, K, n, m, 2) and dense rows");
  return a;
}

template <class T>
void spectral_joint_as(const py::buffer& p_buffer, const py::buffer& q_buffer,
                       const py::buffer& joint_buffer, int threads) {
  const auto p = spectrum<T>("p", p_buffer), q = spectrum<T>("q", q_buffer);
  const auto joint = array<T>("joint", joint_buffer, 5, WRITE);
  const int batch = int(p.size(0)), classes = int(p.size(1)), others = int(q.size(1));
  const int width = int(p.size(3));
  need(q.size(0) == batch && q.size(2) == p.size(2) && q.size(3) == width,
       "`q` must have the B, n and m of `p`");
  const i64 p_stride[] = {p.stride[0], p.stride[1]}, q_stride[] = {q.stride[0], q.stride[1]};
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const i64 wide = K::template wide<T>(width);
    need(joint.size(0) == p.size(2) && joint.size(1) == 2 && joint.size(2) == classes &&
             joint.size(3) == others && joint.size(4) == wide,
         "`joint` must have shape (n, 2, K, L, " + std::to_string(wide) + ")");
    const i64 bytes = 2 * wide * batch * (classes + others) * i64(sizeof(T));
    share(p.size(2), threads, bytes, [&](std::int64_t y, char* memory) {
      K::join(p.data() + y * p.stride[2], p_stride, q.data() + y * q.stride[2], q_stride, batch,
              classes, others, width, memory, joint.data() + y * joint.stride[0]);
    });
  });
}

void spectral_joint(const py::buffer& p, const py::buffer& q, const py::buffer& joint,
                    int threads) {
  const auto run = holds<float>(p.request()) ? spectral_joint_as<float> : spectral_joint_as<double>;
  run(p, q, joint, threads);
}

template <class T>
void spectral_mix_as(const py::buffer& weights_buffer, const py::buffer& q_buffer,
                     const py::buffer& out_buffer, int threads) {
  const auto weights = array<T>("weights", weights_buffer, 5);
  const auto q = spectrum<T>("q", q_buffer), out = spectrum<T>("out", out_buffer, WRITE);
  const int batch = int(q.size(0)), classes = int(out.size(1)), others = int(q.size(1));
  const int width = int(q.size(3));
  need(out.size(0) == batch && out.size(2) == q.size(2) && out.size(3) == width,
       "`out` must have the B, n and m of `q`");
  const i64 q_stride[] = {q.stride[0], q.stride[1]}, out_stride[] = {out.stride[0], out.stride[1]};
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const i64 wide = K::template wide<T>(width);
    need(weights.size(0) == q.size(2) && weights.size(1) == 2 && weights.size(2) == classes &&
             weights.size(3) == others && weights.size(4) == wide,
         "`weights` must have shape (n, 2, K, L, " + std::to_string(wide) + ")");
    const i64 bytes = 2 * wide * batch * others * i64(sizeof(T));
    share(q.size(2), threads, bytes, [&](std::int64_t y, char* memory) {
      K::mix(weights.data() + y * weights.stride[0], q.data() + y * q.stride[2], q_stride, batch,
             classes, others, width, memory, out.data() + y * out.stride[2], out_stride);
    });
  });
}

void spectral_mix(const py::buffer& weights, const py::buffer& q, const py::buffer& out,
                  int threads) {
  const auto run = holds<float>(q.request()) ? spectral_mix_as<float> : spectral_mix_as<double>;
  run(weights, q, out, threads);
}

// Columns that rows of `width` frequencies take in `spectral_joint`.
int spectral_width(int width, bool wide_type) {
  int wide = 0;
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    wide = wide_type ? K::template wide<double>(width) : K::template wide<float>(width);
  });
  return wide;
}

}  // namespace

void bind_joint(py::module_& m) {
  m.def("box_sum", &box_sum, py::arg("src"), py::arg("dst"), py::arg("radius"), py::arg("threads"));
  m.def("displaced_joint", &displaced_joint, py::arg("p"), py::arg("q"), py::arg("joint"),
        py::arg("threads"));
  m.def("spectral_joint", &spectral_joint, py::arg("p"), py::arg("q"), py::arg("joint"),
        py::arg("threads"));
  m.def("spectral_mix", &spectral_mix, py::arg("weights"), py::arg("q"), py::arg("out"),
        py::arg("threads"));
  m.def("spectral_width", &spectral_width, py::arg("width"), py::arg("double"));
}
