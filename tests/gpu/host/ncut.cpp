// csrc/cuda/ncut.cu for the CPU.

#include "cuda_shim.h"
//
#include "cuda/ncut.cu"

LAUNCHABLE(ncut_float)
LAUNCHABLE(ncut_double)
