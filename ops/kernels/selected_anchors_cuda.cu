// A thread takes one row. Rows are few, so they do not fill a GPU; what counts is that predictions
// need not be copied to the host.
#include "kernels/selected_anchors_cuda.h"

#include "kernels/cuda_interface.h"
#include "kernels/select_loss_cuda.h"

namespace detectron_ext {
namespace {

__global__ void __launch_bounds__(kCudaThreads)
    BoxIouKernel(SelectionPointers in, double max_log_scale, float* iou) {
  for (int64_t i = FirstElement(); i < in.rows; i += ElementStride()) {
    const float* const prediction = in.prediction + SelectedIndex(in.places + 4 * i, in.map);
    iou[i] = DeltaBoxIou(prediction, in.map.h * in.map.w, in.target + 4 * i, max_log_scale);
  }
}

__global__ void __launch_bounds__(kCudaThreads)
    SelectFocalKernel(SelectFocalInputs in, float* loss, float* p) {
  for (int64_t i = FirstElement(); i < in.rows; i += ElementStride()) {
    const AnchorFocal focal = SelectedFocal(in, i);
    loss[i] = focal.loss;
    p[i] = focal.p;
  }
}

__global__ void __launch_bounds__(kCudaThreads)
    CopyKernel(const float* from, int64_t size, float* to) {
  for (int64_t i = FirstElement(); i < size; i += ElementStride()) {
    to[i] = from[i];
  }
}

// The first of the rows that select an anchor multiplies its value by the factors of all of them.
__global__ void __launch_bounds__(kCudaThreads)
    ScaleAnchorsKernel(AnchorMapShape shape, int64_t rows, const float* factors,
                       const float* places, float* scaled) {
  for (int64_t i = FirstElement(); i < rows; i += ElementStride()) {
    const int64_t at = AnchorIndex(places + 4 * i, shape);
    bool is_first = true;
    for (int64_t other = 0; other < i && is_first; ++other) {
      is_first = AnchorIndex(places + 4 * other, shape) != at;
    }
    if (!is_first) {
      continue;
    }
    float value = scaled[at];
    for (int64_t other = i; other < rows; ++other) {
      if (AnchorIndex(places + 4 * other, shape) == at) {
        value *= factors[other];
      }
    }
    scaled[at] = value;
  }
}

}  // namespace

void SelectBoxIouCuda(const SelectionPointers& in, double max_log_scale, float* iou,
                      cudaStream_t stream) {
  LaunchCuda("SelectBoxIou", BoxIouKernel, CudaBlocks(in.rows), kCudaThreads, stream, in,
             max_log_scale, iou);
}

void SelectFocalLossCuda(const SelectFocalInputs& in, float* loss, float* p, cudaStream_t stream) {
  LaunchCuda("SelectSigmoidFocalLoss", SelectFocalKernel, CudaBlocks(in.rows), kCudaThreads, stream,
             in, loss, p);
}

void ScaleAnchorsCuda(const AnchorMapShape& shape, const float* weights, int64_t rows,
                      const float* factors, const float* places, float* scaled,
                      cudaStream_t stream) {
  const int64_t size = shape.n * shape.anchors * shape.h * shape.w;
  LaunchCuda("ScaleAnchors", CopyKernel, CudaBlocks(size), kCudaThreads, stream, weights, size,
             scaled);
  LaunchCuda("ScaleAnchors", ScaleAnchorsKernel, CudaBlocks(rows), kCudaThreads, stream, shape,
             rows, factors, places, scaled);
}

}  // namespace detectron_ext

using namespace detectron_ext;  // NOLINT: what follows is nothing but the C interface

extern "C" {

// map: n, c, h, w.
int detectron_ext_select_box_iou(const int64_t* map, const float* prediction, int64_t rows,
                                 const float* target, const float* places, float max_log_scale,
                                 float* iou, cudaStream_t stream) {
  return Guarded([&] {
    SelectBoxIouCuda(
        {{map[0], map[1], map[2], map[3]}, prediction, rows, target, places, nullptr, nullptr},
        max_log_scale, iou, stream);
  });
}

// shape: n, anchors, h, w and the channels of an anchor in `places`.
int detectron_ext_select_focal_loss(const int64_t* shape, const float* logits,
                                    const int32_t* labels, int64_t classes, int64_t rows,
                                    const float* places, float gamma, float alpha, float* loss,
                                    float* p, cudaStream_t stream) {
  return Guarded([&] {
    SelectFocalLossCuda({logits,
                         labels,
                         {shape[0], shape[1], shape[2], shape[3], shape[4]},
                         classes,
                         rows,
                         places,
                         gamma,
                         alpha},
                        loss, p, stream);
  });
}

int detectron_ext_scale_anchors(const int64_t* shape, const float* weights, int64_t rows,
                                const float* factors, const float* places, float* scaled,
                                cudaStream_t stream) {
  return Guarded([&] {
    ScaleAnchorsCuda({shape[0], shape[1], shape[2], shape[3], shape[4]}, weights, rows, factors,
                     places, scaled, stream);
  });
}

}  // extern "C"
