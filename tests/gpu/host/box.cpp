// csrc/cuda/box.cu for the CPU.

#include "cuda_shim.h"
//
#include "cuda/box.cu"

LAUNCHABLE(box_join_float)
LAUNCHABLE(box_join_double)
LAUNCHABLE(box_mix_float)
LAUNCHABLE(box_mix_double)
