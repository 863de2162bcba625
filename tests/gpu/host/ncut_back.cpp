// csrc/cuda/ncut_back.cu for the CPU.

#include "cuda_shim.h"
//
#include "cuda/ncut_back.cu"

LAUNCHABLE(ncut_back_float)
LAUNCHABLE(ncut_back_double)
