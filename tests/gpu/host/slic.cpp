// csrc/cuda/slic.cu for the CPU.

#include "cuda_shim.h"
//
#include "cuda/slic.cu"

LAUNCHABLE(slic_load_uint8)
LAUNCHABLE(slic_load_float)
LAUNCHABLE(slic_rgb)
LAUNCHABLE(slic_any)
