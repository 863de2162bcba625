// Bindings of csrc/attention.h.

#define FASTSEG_KERNELS "attention_kernels.h"
#include "each_isa.h"

namespace {

constexpr int ROWS = 96;  // BLOCK of csrc/attention.h
// Rows are as long as a multiple of every register.
constexpr int WHOLE = 16;

// The heads' rows (heads, rows, length), or (heads, rows/ROWS, length, ROWS) if transposed.
template <class T>
struct Heads {
  Array<T> q, k, v, kt, vt;
  int count;
  bool causal;

  template <class Head>
  Head at(std::int64_t i) const {
    const std::int64_t skipped = i * q.stride[0];
    return {count,
            int(q.size(1)),
            int(q.size(2)),
            causal,
            q.data() + skipped,
            k.data() + skipped,
            v.data() + skipped,
            kt.data() + skipped,
            vt.data() + skipped};
  }
};

template <class T>
Heads<T> heads_of(const py::buffer& q, const py::buffer& k, const py::buffer& v,
                  const py::buffer& kt, const py::buffer& vt, int count, bool causal) {
  Heads<T> heads{array<T>("q", q, 3),
                 array<T>("k", k, 3),
                 array<T>("v", v, 3),
                 array<T>("kt", kt, 4),
                 array<T>("vt", vt, 4),
                 count,
                 causal};
  const auto &shape = heads.q.info.shape, &turned = heads.kt.info.shape;
  need(
      shape[0] > 0 && shape[1] > 0 && shape[1] % ROWS == 0 && shape[2] > 0 && shape[2] % WHOLE == 0,
      "`q` must have shape (heads, rows, length), padded");
  need(heads.k.info.shape == shape && heads.v.info.shape == shape,
       "`k` and `v` must have the shape of `q`");
  need(turned[0] == shape[0] && turned[1] == shape[1] / ROWS && turned[2] == shape[2] &&
           turned[3] == ROWS && heads.vt.info.shape == turned,
       "`kt` and `vt` must have shape (heads, rows/ROWS, length, ROWS)");
  need(count > shape[1] - ROWS && count <= shape[1], "`count` must be of the last block");
  return heads;
}

template <class T>
void attention_as(const Heads<T>& heads, const py::buffer& out_buffer,
                  const py::buffer& norm_buffer, int threads) {
  const auto out = array<T>("out", out_buffer, 3, WRITE);
  const auto norm = array<T>("norm", norm_buffer, 2, WRITE);
  need(out.info.shape == heads.q.info.shape, "`out` must have the shape of `q`");
  need(norm.size(0) == out.size(0) && norm.size(1) == out.size(1),
       "`norm` must have shape (heads, rows)");
  const std::int64_t blocks = out.size(1) / ROWS;
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    using Head = typename K::template HeadOf<T>;
    // Those that see most come first, so that threads end together.
    share(out.size(0) * blocks, threads, K::template workspace<T>(int(out.size(2))),
          [&](std::int64_t task, char* memory) {
            const std::int64_t i = task % out.size(0), at = blocks - 1 - task / out.size(0);
            K::forward(heads.template at<Head>(i), int(at), memory, out.data() + i * out.stride[0],
                       norm.data() + i * norm.stride[0]);
          });
  });
}

void attention(const py::buffer& q, const py::buffer& k, const py::buffer& v, const py::buffer& kt,
               const py::buffer& out, const py::buffer& norm, int count, bool causal, int threads) {
  if (holds<float>(q.request()))
    attention_as(heads_of<float>(q, k, v, kt, kt, count, causal), out, norm, threads);
  else attention_as(heads_of<double>(q, k, v, kt, kt, count, causal), out, norm, threads);
}

template <class T>
void attention_back_as(const Heads<T>& heads, const py::buffer& g_buffer,
                       const py::buffer& norm_buffer, const py::buffer& delta_buffer,
                       const py::buffer& dq_buffer, const py::buffer& dk_buffer,
                       const py::buffer& dv_buffer, int threads) {
  const auto g = array<T>("g", g_buffer, 3);
  const auto norm = array<T>("norm", norm_buffer, 2), delta = array<T>("delta", delta_buffer, 2);
  const auto dq = array<T>("dq", dq_buffer, 4, WRITE);
  const auto dk = array<T>("dk", dk_buffer, 3, WRITE), dv = array<T>("dv", dv_buffer, 3, WRITE);
  const auto& shape = heads.q.info.shape;
  need(g.info.shape == shape && dk.info.shape == shape && dv.info.shape == shape,
       "`g`, `dk` and `dv` must have the shape of `q`");
  need(norm.size(0) == shape[0] && norm.size(1) == shape[1] && delta.info.shape == norm.info.shape,
       "`norm` and `delta` must have shape (heads, rows)");
  const std::int64_t parts = dq.size(0), blocks = shape[1] / ROWS;
  need(dq.size(1) == shape[0] && dq.size(2) == shape[1] && dq.size(3) == shape[2],
       "`dq` must have shape (parts, heads, rows, length)");
  with_kernels([&](auto kernels) {
    using K = decltype(kernels);
    using Head = typename K::template HeadOf<T>;
    using Back = typename K::template BackOf<T>;
    share(parts * shape[0], threads, K::template back_workspace<T>(),
          [&](std::int64_t task, char* memory) {
            const std::int64_t i = task / parts, part = task % parts, skipped = i * g.stride[0];
            const std::int64_t row = i * norm.stride[0];
            const Back back{g.data() + skipped,  norm.data() + row,
                            delta.data() + row,  dq.data() + part * dq.stride[0] + skipped,
                            dk.data() + skipped, dv.data() + skipped};
            for (std::int64_t at = part; at < blocks; at += parts)
              K::backward(heads.template at<Head>(i), back, int(at), memory);
          });
  });
}

void attention_back(const py::buffer& q, const py::buffer& k, const py::buffer& v,
                    const py::buffer& kt, const py::buffer& vt, const py::buffer& g,
                    const py::buffer& norm, const py::buffer& delta, const py::buffer& dq,
                    const py::buffer& dk, const py::buffer& dv, int count, bool causal,
                    int threads) {
  if (holds<float>(q.request()))
    attention_back_as(heads_of<float>(q, k, v, kt, vt, count, causal), g, norm, delta, dq, dk, dv,
                      threads);
  else
    attention_back_as(heads_of<double>(q, k, v, kt, vt, count, causal), g, norm, delta, dq, dk, dv,
                      threads);
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def("attention", &attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("kt"),
        py::arg("out"), py::arg("norm"), py::arg("count"), py::arg("causal"), py::arg("threads"));
  m.def("attention_back", &attention_back, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("kt"),
        py::arg("vt"), py::arg("g"), py::arg("norm"), py::arg("delta"), py::arg("dq"),
        py::arg("dk"), py::arg("dv"), py::arg("count"), py::arg("causal"), py::arg("threads"));
}
