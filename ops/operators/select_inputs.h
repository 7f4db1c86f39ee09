// Checks of the inputs of losses at selected places, such as SelectSmoothL1Loss.
#pragma once

#include <string>

#include <caffe2/core/logging.h>
#include <caffe2/core/tensor.h>

#include "kernels/select_loss.h"
#include "operators/checks.h"

namespace detectron_ext {

// Enforces the shapes of Y_hat (N, A * 4, H, W), Y (M, 4) and L (M, 4) and returns M. It reads no
// data, so the tensors may be on any device.
inline int64_t CheckSelectedRows(const std::string& type, const caffe2::Tensor& y_hat,
                                 const caffe2::Tensor& y, const caffe2::Tensor& places) {
  EnforceDimensions(type, "Y_hat", y_hat, 4);
  const bool no_rows = y.numel() == 0 && places.numel() == 0;
  CAFFE_ENFORCE(no_rows || (y.dim() == 2 && y.dim(1) == 4 && places.sizes() == y.sizes()), type,
                ": Y of shape ", y.sizes(), " and L of shape ", places.sizes(),
                " must both be (M, 4)");
  return no_rows ? 0 : y.dim(0);
}

// Enforces these shapes and that of S (1), and returns M.
inline int64_t CheckSelectShapes(const std::string& type, const caffe2::Tensor& y_hat,
                                 const caffe2::Tensor& y, const caffe2::Tensor& places,
                                 const caffe2::Tensor& s) {
  const int64_t rows = CheckSelectedRows(type, y_hat, y, places);
  EnforceOneNumber(type, "S", s);
  return rows;
}

// Fails because a row of L lies outside the map of an input, `name`. place: the numbers of that
// row.
[[noreturn]] inline void FailOutside(const std::string& type, const char* name,
                                     const caffe2::Tensor& map, const caffe2::Tensor& places,
                                     int64_t row, const float* place) {
  CAFFE_THROW(type, ": row ", row, " of L of shape ", places.sizes(), ", (", place[0], ", ",
              place[1], ", ", place[2], ", ", place[3], "), selects channels outside ", name,
              " of shape ", map.sizes());
}

// Enforces the shapes, and that every row of L lies inside Y_hat. The tensors must be on the CPU.
inline SelectLossInputs CheckSelectInputs(const std::string& type, const caffe2::Tensor& y_hat,
                                          const caffe2::Tensor& y, const caffe2::Tensor& places,
                                          const caffe2::Tensor& s) {
  SelectLossInputs in{};
  in.rows = CheckSelectShapes(type, y_hat, y, places, s);
  in.y_hat = y_hat.data<float>();
  in.map = {y_hat.dim(0), y_hat.dim(1), y_hat.dim(2), y_hat.dim(3)};
  if (in.rows == 0) {
    return in;
  }
  in.y = y.data<float>();
  in.places = places.data<float>();
  const int64_t row = FirstPlaceOutside(in.places, in.rows, in.map);
  if (row >= 0) {
    FailOutside(type, "Y_hat", y_hat, places, row, in.places + 4 * row);
  }
  return in;
}

}  // namespace detectron_ext
