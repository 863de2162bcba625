// csrc/cuda/region.cu for the CPU.

#include "cuda_shim.h"
//
#include "cuda/region.cu"

LAUNCHABLE(region_measure)
LAUNCHABLE(region_runs)
LAUNCHABLE(region_sum_float)
LAUNCHABLE(region_sum_double)
LAUNCHABLE(region_max_float)
LAUNCHABLE(region_max_double)
LAUNCHABLE(region_join_sum_float)
LAUNCHABLE(region_join_sum_double)
LAUNCHABLE(region_join_max_float)
LAUNCHABLE(region_join_max_double)
LAUNCHABLE(region_sum_boxes_float)
LAUNCHABLE(region_sum_boxes_double)
LAUNCHABLE(region_max_boxes_float)
LAUNCHABLE(region_max_boxes_double)
LAUNCHABLE(region_unpool_half)
LAUNCHABLE(region_unpool_float)
LAUNCHABLE(region_unpool_double)
LAUNCHABLE(region_scatter_float)
LAUNCHABLE(region_scatter_double)
LAUNCHABLE(region_resize_float)
LAUNCHABLE(region_resize_double)
LAUNCHABLE(region_spread_float)
LAUNCHABLE(region_spread_double)
