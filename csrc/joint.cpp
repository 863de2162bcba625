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

// Rows are as long as a multiple of every register.
constexpr int WIDE = 16;

// Spectra (n,B,K,2,wide), real parts and imaginary ones, of any strides down to their rows.
template <class T>
Array<T> parts(const char* name, const py::buffer& buffer) {
  auto a = array<T>(name, buffer, 5, READ_STRIDED);
  need(a.size(3) == 2 && a.stride[4] == 1 && a.size(4) % WIDE == 0,
       std::string("`") + name + "` must have shape (n, B, K, 2, wide) and dense, padded rows");
  return a;
}

template <class K, class T>
auto row_of(const Array<T>& a, std::int64_t y) {
  const T* row = a.data() + y * a.stride[0];
  return typename K::template Parts<T>{row, row + a.stride[3], a.stride[1], a.stride[2]};
}

// One image's spectra src (K,n,m,2) to dst (n,B,K,2,wide).
template <class T>
void part_spectra_as(const py::buffer& src_buffer, const py::buffer& dst_buffer, int image,
                     int threads) {
  const auto src = array<T>("src", src_buffer, 4);
  const auto dst = array<T>("dst", dst_buffer, 5, WRITE);
  const std::int64_t planes = src.size(0), n = src.size(1), width = src.size(2);
  need(src.size(3) == 2, "`src` must have shape (K, n, m, 2)");
  need(image >= 0 && image < dst.size(1), "`image` must be one of `dst`");
  need(dst.size(0) == n && dst.size(2) == planes && dst.size(3) == 2 && dst.size(4) >= width,
       "`dst` must have shape (n, B, K, 2, wide)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    T* to = dst.data() + image * dst.stride[1];
    share(planes, threads, 0, [&](std::int64_t k, char*) {
      K::part(src.data() + k * src.stride[0], int(n), int(width), int(dst.size(4)),
              to + k * dst.stride[2], dst.stride[0]);
    });
  });
}

void part_spectra(const py::buffer& src, const py::buffer& dst, int image, int threads) {
  const auto run = holds<float>(src.request()) ? part_spectra_as<float> : part_spectra_as<double>;
  run(src, dst, image, threads);
}

template <class T>
void spectral_joint_as(const py::buffer& p_buffer, const py::buffer& q_buffer,
                       const py::buffer& joint_buffer, int threads) {
  const auto p = parts<T>("p", p_buffer), q = parts<T>("q", q_buffer);
  const auto joint = array<T>("joint", joint_buffer, 5, WRITE);
  const int batch = int(p.size(1)), classes = int(p.size(2)), others = int(q.size(2));
  const int wide = int(p.size(4));
  need(q.size(0) == p.size(0) && q.size(1) == batch && q.size(4) == wide,
       "`q` must have the n, B and width of `p`");
  need(joint.size(0) == p.size(0) && joint.size(1) == 2 && joint.size(2) == classes &&
           joint.size(3) == others && joint.size(4) == wide,
       "`joint` must have shape (n, 2, K, L, wide)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    share(p.size(0), threads, 0, [&](std::int64_t y, char*) {
      K::join(row_of<K>(p, y), row_of<K>(q, y), batch, classes, others, wide,
              joint.data() + y * joint.stride[0]);
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
  const auto q = parts<T>("q", q_buffer);
  const auto out = array<T>("out", out_buffer, 5, WRITE);
  const int batch = int(q.size(1)), classes = int(weights.size(2)), others = int(q.size(2));
  const int wide = int(q.size(4)), width = int(out.size(3));
  need(weights.size(0) == q.size(0) && weights.size(1) == 2 && weights.size(3) == others &&
           weights.size(4) == wide,
       "`weights` must have shape (n, 2, K, L, wide)");
  need(out.size(0) == batch && out.size(1) == classes && out.size(2) == q.size(0) &&
           width <= wide && out.size(4) == 2,
       "`out` must have shape (B, K, n, m, 2)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    share(q.size(0), threads, 0, [&](std::int64_t y, char*) {
      K::mix(weights.data() + y * weights.stride[0], row_of<K>(q, y), batch, classes, others, wide,
             width, out.data() + y * out.stride[2], out.stride[0], out.stride[1]);
    });
  });
}

void spectral_mix(const py::buffer& weights, const py::buffer& q, const py::buffer& out,
                  int threads) {
  const auto run = holds<float>(q.request()) ? spectral_mix_as<float> : spectral_mix_as<double>;
  run(weights, q, out, threads);
}

}  // namespace

void bind_joint(py::module_& m) {
  m.def("box_sum", &box_sum, py::arg("src"), py::arg("dst"), py::arg("radius"), py::arg("threads"));
  m.def("displaced_joint", &displaced_joint, py::arg("p"), py::arg("q"), py::arg("joint"),
        py::arg("threads"));
  m.def("part_spectra", &part_spectra, py::arg("src"), py::arg("dst"), py::arg("image"),
        py::arg("threads"));
  m.def("spectral_joint", &spectral_joint, py::arg("p"), py::arg("q"), py::arg("joint"),
        py::arg("threads"));
  m.def("spectral_mix", &spectral_mix, py::arg("weights"), py::arg("q"), py::arg("out"),
        py::arg("threads"));
}
