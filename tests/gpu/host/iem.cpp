// csrc/cuda/iem.cu for the CPU.

#include "cuda_shim.h"
//
#include "cuda/iem.cu"

LAUNCHABLE(iem)
LAUNCHABLE(iem_workspace)
