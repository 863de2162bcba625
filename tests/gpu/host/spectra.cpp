// csrc/cuda/spectra.cu for the CPU.

#include "cuda_shim.h"
//
#include "cuda/spectra.cu"

LAUNCHABLE(plane_spectra_float)
LAUNCHABLE(plane_spectra_double)
LAUNCHABLE(plane_pixels_float)
LAUNCHABLE(plane_pixels_double)
