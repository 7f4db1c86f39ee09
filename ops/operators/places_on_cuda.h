// Checks of the places that rows of L select, on CUDA.
#pragma once

#include <string>

#include <caffe2/core/context_gpu.h>

#include "kernels/losses_cuda.h"
#include "operators/cuda_helpers.h"
#include "operators/select_inputs.h"

namespace detectron_ext {

// Enforces that every row of L, of which there must be one, lies inside `map`, and returns the
// places. Waits for the device, which finds the first row outside; `found` is its working memory.
// `name` and `tensor`: the input that the map belongs to, for the message.
inline const float* EnforceInsideOnCuda(const std::string& type, const caffe2::Tensor& places,
                                        const MapShape& map, const char* name,
                                        const caffe2::Tensor& tensor, caffe2::Tensor* found,
                                        caffe2::CUDAContext* context) {
  SelectionPointers in{};
  in.map = map;
  in.rows = places.numel() / 4;
  CAFFE_ENFORCE(in.rows < kMaxCudaRows, type, ": L has ", in.rows, " rows; on CUDA it must have ",
                "fewer than ", kMaxCudaRows);
  in.places = places.data<float>();
  int* first_outside = Scratch<int>(1, found);
  FindOutsideCuda(type.c_str(), in, first_outside, context->cuda_stream());
  int row = 0;
  context->CopyBytes<caffe2::CUDAContext, caffe2::CPUContext>(sizeof(row), first_outside, &row);
  context->FinishDeviceComputation();
  if (row < in.rows) {
    float place[4];
    context->CopyBytes<caffe2::CUDAContext, caffe2::CPUContext>(sizeof(place), in.places + 4 * row,
                                                                place);
    context->FinishDeviceComputation();
    FailOutside(type, name, tensor, places, row, place);
  }
  return in.places;
}

}  // namespace detectron_ext
