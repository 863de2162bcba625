// The module fastseg._native: its instruction sets, and the functions of each family. Nothing of
// torch or NumPy is linked.

#include "native.h"

#include <iterator>

int chosen_isa = -1;  // the first of ISAS that runs here, or the one `set_isa` named

namespace {

struct Isa {
  const char* name;
  bool (*runs)();
};

#if FASTSEG_X86
const Isa ISAS[] = {
    {"x86-64-v4",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
     }},
    {"x86-64-v3",
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
     }},
    {"x86-64-v2",
     [] { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }},
};
#else
const Isa ISAS[] = {{"generic", [] { return true; }}};
#endif

const char* isa() { return ISAS[chosen_isa].name; }

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa& set : ISAS)
    if (set.runs()) names.push_back(set.name);
  return names;
}

void set_isa(const std::string& name) {
  int i = 0;
  for (const Isa& set : ISAS) {
    if (set.name == name && set.runs()) {
      chosen_isa = i;
      return;
    }
    ++i;
  }
  throw std::invalid_argument("this machine does not run the instruction set '" + name + "'");
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  for (const Isa& set : ISAS) {
    ++chosen_isa;
    if (set.runs()) break;
    if (&set == ISAS + std::size(ISAS) - 1)
      throw py::import_error("fastseg._native needs a CPU of at least x86-64-v2");
  }
  m.doc() = "CPU kernels on buffers. Private: call fastseg's public functions.";
  m.def("isa", &isa, "The instruction set in use.");
  m.def("isas", &isas, "The instruction sets that this machine runs.");
  m.def("set_isa", &set_isa, "Use this instruction set from now on.", py::arg("name"));
  bind_attention(m);
  bind_confusion(m);
  bind_inpaint(m);
  bind_joint(m);
  bind_masked_conv(m);
  bind_ncut(m);
  bind_region(m);
  bind_region_embed(m);
  bind_region_index(m);
  bind_slic(m);
}
