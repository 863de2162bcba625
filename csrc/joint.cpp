// Bindings of csrc/joint.h.

#define FASTSEG_KERNELS "joint_kernels.h"
#include <array>

#include "each_isa.h"

namespace {

using i64 = long long;

// Of any format; see native.h.
void hint(const py::buffer& dst) {
  const py::buffer_info info = dst.request(true);
  hint_large(info.ptr, info.size * info.itemsize);
}

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

using Cut = std::array<int, 3>;  // of an axis: count, step and size, see csrc/spectra.h

// The axis, if its tiles cover it, and are within reach of nothing but each other.
template <class Line>
Line axis(const char* name, std::int64_t pixels, const Cut& cut, int radius) {
  const std::int64_t count = cut[0], step = cut[1], size = cut[2];
  const std::int64_t least = count == 1 ? pixels + radius : step + 2 * std::int64_t(radius);
  need(step > 0 && (count - 1) * step < pixels && pixels <= count * step && size >= least,
       std::string("`") + name + "` must cover the planes");
  return {int(pixels), cut[0], cut[1], cut[2]};
}

// What turns planes (B,K,H,W) into spectra (blocks,K,R,2,BLOCK), or back.
template <class K, class T>
struct Turn {
  typename K::template Cut<T> tiling;
  std::int64_t planes, tiles, pitch;
  Turn(const Array<T>& planes_of, const Array<T>& spectra, const Cut& rows, const Cut& columns,
       int radius, const Array<T>& roots, const Array<T>& table) {
    using Line = typename K::Line;
    const auto y = axis<Line>("rows", planes_of.size(2), rows, radius);
    const auto x = axis<Line>("columns", planes_of.size(3), columns, radius);
    need(roots.size(0) == 2 && roots.size(1) == y.size, "`roots` must have shape (2, n)");
    int rest = y.size;
    for (const int prime : {2, 3, 5, 7})
      while (rest % prime == 0) rest /= prime;
    need(rest == 1, "`rows` must have a size without prime factors above 7");
    planes = planes_of.size(1), tiles = std::int64_t(y.count) * x.count;
    pitch = planes * spectra.size(2) * 2 * K::FREQUENCIES;
    const int wide = int(spectra.size(0) / y.size) * K::FREQUENCIES;
    need(wide > 0 && spectra.size(0) * K::FREQUENCIES == std::int64_t(y.size) * wide &&
             spectra.size(1) == planes && spectra.size(2) == planes_of.size(0) * tiles &&
             spectra.size(3) == 2 && spectra.size(4) == K::FREQUENCIES,
         "spectra must have shape (blocks, K, R, 2, " + std::to_string(K::FREQUENCIES) + ")");
    tiling = {y, x, radius, wide, roots.data(), table.data(), table.size(1)};
  }
  // Where the first tile of plane k of image b begins.
  std::int64_t at(std::int64_t plane) const {
    const std::int64_t image = plane / planes, k = plane % planes;
    return k * (pitch / planes) + image * tiles * 2 * K::FREQUENCIES;
  }
};

template <class T>
void tile_spectra_as(const py::buffer& src_buffer, const py::buffer& dst_buffer, const Cut& rows,
                     const Cut& columns, int radius, bool around, const py::buffer& roots_buffer,
                     const py::buffer& table_buffer, int threads) {
  const auto src = array<T>("src", src_buffer, 4);
  const auto dst = array<T>("dst", dst_buffer, 5, WRITE);
  const auto roots = array<T>("roots", roots_buffer, 2), table = array<T>("table", table_buffer, 2);
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const Turn<K, T> turn(src, dst, rows, columns, radius, roots, table);
    need(table.size(0) == columns[2] && table.size(1) == 2 * turn.tiling.wide,
         "`table` must have shape (m, 2·wide)");
    const auto bytes = K::plane_workspace(turn.tiling);
    share(src.size(0) * src.size(1), threads, bytes, [&](std::int64_t i, char* memory) {
      K::spectra(turn.tiling, src.data() + i * src.stride[1], around ? radius : 0,
                 dst.data() + turn.at(i), turn.pitch, memory);
    });
  });
}

void tile_spectra(const py::buffer& src, const py::buffer& dst, const Cut& rows, const Cut& columns,
                  int radius, bool around, const py::buffer& roots, const py::buffer& table,
                  int threads) {
  const auto run = holds<float>(src.request()) ? tile_spectra_as<float> : tile_spectra_as<double>;
  run(src, dst, rows, columns, radius, around, roots, table, threads);
}

template <class T>
void tile_pixels_as(const py::buffer& src_buffer, const py::buffer& dst_buffer, const Cut& rows,
                    const Cut& columns, int radius, const py::buffer& roots_buffer,
                    const py::buffer& table_buffer, int threads) {
  const auto src = array<T>("src", src_buffer, 5);
  const auto dst = array<T>("dst", dst_buffer, 4, WRITE);
  const auto roots = array<T>("roots", roots_buffer, 2), table = array<T>("table", table_buffer, 2);
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    const Turn<K, T> turn(dst, src, rows, columns, radius, roots, table);
    need(table.size(0) == 2 * turn.tiling.wide && table.size(1) % K::FREQUENCIES == 0 &&
             table.size(1) >= columns[1],
         "`table` must have shape (2·wide, step in whole blocks)");
    const auto bytes = K::plane_workspace(turn.tiling);
    share(dst.size(0) * dst.size(1), threads, bytes, [&](std::int64_t i, char* memory) {
      K::pixels(turn.tiling, src.data() + turn.at(i), turn.pitch, dst.data() + i * dst.stride[1],
                memory);
    });
  });
}

void tile_pixels(const py::buffer& src, const py::buffer& dst, const Cut& rows, const Cut& columns,
                 int radius, const py::buffer& roots, const py::buffer& table, int threads) {
  const auto run = holds<float>(src.request()) ? tile_pixels_as<float> : tile_pixels_as<double>;
  run(src, dst, rows, columns, radius, roots, table, threads);
}

template <class T>
void join_spectra_as(const py::buffer& p_buffer, const py::buffer& q_buffer,
                     const py::buffer& joint_buffer, bool add, int threads) {
  const auto p = array<T>("p", p_buffer, 5), q = array<T>("q", q_buffer, 5);
  const auto joint = array<T>("joint", joint_buffer, 5, WRITE);
  need(q.size(0) == p.size(0) && q.size(2) == p.size(2),
       "`q` must have the blocks and tiles of `p`");
  need(joint.size(0) == p.size(0) && joint.size(1) == p.size(1) && joint.size(2) == q.size(1),
       "`joint` must have shape (blocks, K, L, 2, BLOCK)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    for (const auto* a : {&p, &q, &joint})
      need(a->size(3) == 2 && a->size(4) == K::FREQUENCIES, "spectra must be in blocks");
    share(p.size(0), threads, 0, [&](std::int64_t i, char*) {
      K::join(p.data() + i * p.stride[0], q.data() + i * q.stride[0], int(p.size(1)),
              int(q.size(1)), int(p.size(2)), add, joint.data() + i * joint.stride[0]);
    });
  });
}

void join_spectra(const py::buffer& p, const py::buffer& q, const py::buffer& joint, bool add,
                  int threads) {
  const auto run = holds<float>(p.request()) ? join_spectra_as<float> : join_spectra_as<double>;
  run(p, q, joint, add, threads);
}

template <class T>
void mix_spectra_as(const py::buffer& weights_buffer, const py::buffer& q_buffer,
                    const py::buffer& out_buffer, int threads) {
  const auto weights = array<T>("weights", weights_buffer, 5), q = array<T>("q", q_buffer, 5);
  const auto out = array<T>("out", out_buffer, 5, WRITE);
  need(weights.size(0) == q.size(0) && weights.size(2) == q.size(1),
       "`weights` must have shape (blocks, K, L, 2, BLOCK)");
  need(out.size(0) == q.size(0) && out.size(1) == weights.size(1) && out.size(2) == q.size(2),
       "`out` must have shape (blocks, K, R, 2, BLOCK)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    for (const auto* a : {&weights, &q, &out})
      need(a->size(3) == 2 && a->size(4) == K::FREQUENCIES, "spectra must be in blocks");
    share(q.size(0), threads, 0, [&](std::int64_t i, char*) {
      K::mix(weights.data() + i * weights.stride[0], q.data() + i * q.stride[0],
             int(weights.size(1)), int(q.size(1)), int(q.size(2)), out.data() + i * out.stride[0]);
    });
  });
}

void mix_spectra(const py::buffer& weights, const py::buffer& q, const py::buffer& out,
                 int threads) {
  const auto run = holds<float>(q.request()) ? mix_spectra_as<float> : mix_spectra_as<double>;
  run(weights, q, out, threads);
}

}  // namespace

void bind_joint(py::module_& m) {
  const py::arg src("src"), dst("dst"), p("p"), q("q"), rows("rows"), columns("columns"),
      radius("radius"), roots("roots"), table("table"), threads("threads");
  m.def("hint_large", &hint, dst);
  m.def("box_sum", &box_sum, src, dst, radius, threads);
  m.def("displaced_joint", &displaced_joint, p, q, py::arg("joint"), threads);
  m.def("tile_spectra", &tile_spectra, src, dst, rows, columns, radius, py::arg("around"), roots,
        table, threads);
  m.def("tile_pixels", &tile_pixels, src, dst, rows, columns, radius, roots, table, threads);
  m.def("join_spectra", &join_spectra, p, q, py::arg("joint"), py::arg("add"), threads);
  m.def("mix_spectra", &mix_spectra, py::arg("weights"), q, py::arg("out"), threads);
}
