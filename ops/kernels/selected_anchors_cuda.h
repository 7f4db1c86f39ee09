// Numbers of selected anchors on CUDA, see kernels/selected_anchors.h. Pointers are to device
// memory. All places must lie inside the map of deltas: call FindOutsideCuda before.
#pragma once

#include "kernels/losses_cuda.h"
#include "kernels/selected_anchors.h"

namespace detectron_ext {

void SelectBoxIouCuda(const SelectionPointers& in, double max_log_scale, float* iou,
                      cudaStream_t stream);

void SelectFocalLossCuda(const SelectFocalInputs& in, float* loss, float* p, cudaStream_t stream);

void ScaleAnchorsCuda(const AnchorMapShape& shape, const float* weights, int64_t rows,
                      const float* factors, const float* places, float* scaled,
                      cudaStream_t stream);

}  // namespace detectron_ext
