// The balanced pyramid of kernels/balanced_pyramid.h on CUDA. Pointers are to device memory. Maps
// must start at a multiple of 16 bytes.
#pragma once

#include <cstdint>

#include "kernels/balanced_pyramid.h"
#include "kernels/cuda_launch.h"

namespace detectron_ext {

// The area of a plane, and its height and width, must be below these limits.
constexpr int64_t kMaxCudaPlane = 1 << 30;
constexpr int64_t kMaxCudaSide = 1 << 15;

// As GatherPyramid.
void GatherPyramidCuda(const PyramidShape& shape, const std::vector<const float*>& levels,
                       float* gathered, cudaStream_t stream);

// As GatherPyramidGradient. `places` must hold GatherPlaces(shape) indices.
void GatherPyramidGradientCuda(const PyramidShape& shape, const std::vector<const float*>& levels,
                               const float* d_gathered, const std::vector<float*>& d_levels,
                               int32_t* places, cudaStream_t stream);
int64_t GatherPlaces(const PyramidShape& shape);

// As ScatterPyramid.
void ScatterPyramidCuda(const PyramidShape& shape, const float* balanced,
                        const std::vector<const float*>& levels,
                        const std::vector<float*>& scattered, cudaStream_t stream);

// As ScatterPyramidGradient. `places` must hold ScatterPlaces(shape, d_scattered) indices.
void ScatterPyramidGradientCuda(const PyramidShape& shape, const float* balanced,
                                const std::vector<const float*>& d_scattered, float* d_balanced,
                                int32_t* places, cudaStream_t stream);
int64_t ScatterPlaces(const PyramidShape& shape, const std::vector<const float*>& d_scattered);

}  // namespace detectron_ext
