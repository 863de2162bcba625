// The kernels of the header FASTSEG_KERNELS, once for every instruction set, each in its namespace,
// and `with_kernels` to call those of the set in use. Included by one source of each family.

#include "native.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // wide vectors only pass between inlined functions

#if FASTSEG_X86
#include <immintrin.h>

#define FASTSEG_LANES 4
#pragma GCC push_options
#pragma GCC target("sse4.2,popcnt")
namespace {
namespace v2 {
#include FASTSEG_KERNELS
}
}  // namespace
#pragma GCC pop_options
#undef FASTSEG_LANES
#undef FN
#undef BODY

#define FASTSEG_LANES 8
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,lzcnt,movbe,popcnt")
namespace {
namespace v3 {
#include FASTSEG_KERNELS
}
}  // namespace
#pragma GCC pop_options
#undef FASTSEG_LANES
#undef FN
#undef BODY

#define FASTSEG_LANES 16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi,bmi2,lzcnt,popcnt")
namespace {
namespace v4 {
#include FASTSEG_KERNELS
}
}  // namespace
#pragma GCC pop_options
#else
#define FASTSEG_LANES 4
namespace {
namespace generic {
#include FASTSEG_KERNELS
}
}  // namespace
#endif
#pragma GCC diagnostic pop

namespace {

// f(kernels of the instruction set in use)
template <class F>
void with_kernels(F f) {
#if FASTSEG_X86
  if (chosen_isa == 0) return f(v4::Kernels{});
  if (chosen_isa == 1) return f(v3::Kernels{});
  return f(v2::Kernels{});
#else
  return f(generic::Kernels{});
#endif
}

}  // namespace
