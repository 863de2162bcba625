// The index of regions that the kernels of csrc/region.h walk.

#include "region_buffers.h"

namespace {

// Of one image: its labels, −1 for all negative ones; runs (first, end, region), pixels and box
// (top, left, bottom, right) a region. Returns the pixel of the first label that is too large, or
// −1.
template <class Label>
std::int64_t index_image(const Label* labels, std::int64_t height, std::int64_t width,
                         std::int64_t regions, std::int32_t* copy, std::int32_t* runs,
                         std::int32_t* num_runs, std::int32_t* counts, std::int32_t* boxes) {
  std::fill(counts, counts + regions, 0);
  std::fill(boxes, boxes + 4 * regions, 0);
  std::int32_t* run = runs;
  for (std::int64_t y = 0; y < height; ++y) {
    const Label* row = labels + y * width;
    for (std::int64_t x = 0; x < width;) {
      const Label label = row[x];
      const std::int64_t first = x;
      while (++x < width && row[x] == label) continue;
      const auto value = std::int32_t(std::max<Label>(label, -1));
      std::fill(copy + y * width + first, copy + y * width + x, value);
      if (label < 0) continue;
      if (label >= regions) return y * width + first;
      *run++ = std::int32_t(y * width + first);
      *run++ = std::int32_t(y * width + x);
      *run++ = std::int32_t(label);
      std::int32_t* box = boxes + 4 * label;
      if (counts[label] == 0) box[0] = std::int32_t(y), box[1] = std::int32_t(width);
      counts[label] += std::int32_t(x - first);
      box[1] = std::min(box[1], std::int32_t(first));
      box[2] = std::int32_t(y + 1);
      box[3] = std::max(box[3], std::int32_t(x));
    }
  }
  *num_runs = std::int32_t((run - runs) / 3);
  return -1;
}

template <class Label>
std::int64_t index_as(const py::buffer& labels_buffer, const py::buffer& copy_buffer,
                      const py::buffer& runs_buffer, const py::buffer& num_runs_buffer,
                      const py::buffer& counts_buffer, const py::buffer& boxes_buffer,
                      int threads) {
  const auto labels = array<Label>("labels", labels_buffer, 3);
  const auto copy = array<std::int32_t>("copy", copy_buffer, 3, WRITE);
  const auto runs = array<std::int32_t>("runs", runs_buffer, 3, WRITE);
  const auto num_runs = array<std::int32_t>("num_runs", num_runs_buffer, 1, WRITE);
  const auto counts = array<std::int32_t>("counts", counts_buffer, 2, WRITE);
  const auto boxes = array<std::int32_t>("boxes", boxes_buffer, 3, WRITE);
  const std::int64_t batch = labels.size(0), height = labels.size(1), width = labels.size(2);
  const std::int64_t size = height * width, regions = counts.size(1);
  need(size <= INT32_MAX, "`labels` must have fewer than 2³¹ pixels an image");
  need(copy.info.shape == labels.info.shape, "`copy` must have the shape of `labels`");
  need(runs.size(0) == batch && runs.size(1) == size && runs.size(2) == 3,
       "`runs` must have shape (B, H·W, 3)");
  need(num_runs.size(0) == batch && counts.size(0) == batch,
       "`num_runs` and `counts` must have the B of `labels`");
  need(boxes.size(0) == batch && boxes.size(1) == regions && boxes.size(2) == 4,
       "`boxes` must have shape (B, R, 4)");
  std::vector<std::int64_t> bad(batch, -1);
  share(batch, crew(batch * size, threads), 0, [&](std::int64_t b, char*) {
    bad[b] = index_image(labels.data() + b * size, height, width, regions, copy.data() + b * size,
                         runs.data() + b * size * 3, num_runs.data() + b,
                         counts.data() + b * regions, boxes.data() + b * regions * 4);
  });
  for (std::int64_t b = 0; b < batch; ++b)
    if (bad[b] >= 0) return b * size + bad[b];
  return -1;
}

std::int64_t region_index(const py::buffer& labels, const py::buffer& copy, const py::buffer& runs,
                          const py::buffer& num_runs, const py::buffer& counts,
                          const py::buffer& boxes, int threads) {
  const bool wide = holds<std::int64_t>(labels.request());
  const auto run = wide ? index_as<std::int64_t> : index_as<std::int32_t>;
  return run(labels, copy, runs, num_runs, counts, boxes, threads);
}

}  // namespace

void bind_region_index(py::module_& m) {
  m.def("region_index", &region_index, py::arg("labels"), py::arg("copy"), py::arg("runs"),
        py::arg("num_runs"), py::arg("counts"), py::arg("boxes"), py::arg("threads"));
}
