// The mass of the gradient in each bin on CUDA, see kernels/gradient_mass.h. Pointers are to device
// memory. Bins are not checked: an anchor whose bin is not from 1 to num_bins is not counted.
#pragma once

#include "kernels/cuda_launch.h"
#include "kernels/gradient_mass.h"

namespace detectron_ext {

// Doubles that `scratch` must hold.
int64_t GradientMassScratch(int64_t num_bins);

void NegativeGradientMassCuda(const GradientMassInputs& in, double* scratch, float* mass,
                              cudaStream_t stream);

}  // namespace detectron_ext
