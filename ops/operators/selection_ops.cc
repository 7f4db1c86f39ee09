// SpatialNarrowAs, SampleAs and their gradients on the CPU, where Detectron has no implementation.
#include <algorithm>
#include <vector>

#include <caffe2/core/operator.h>

#include "operators/checks.h"
#include "operators/registration.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::DispatchHelper;
using caffe2::Operator;
using caffe2::Tensor;
using caffe2::TensorTypes;

class SpatialNarrowAsBase : public Operator<CPUContext> {
 public:
  using Operator<CPUContext>::Operator;

 protected:
  // Returns the shape of A, (N, C, H0, W0), cut to the height and width of B, (N, C, H1, W1) or
  // (N, H1, W1).
  std::vector<int64_t> NarrowSizes() {
    const Tensor& a = Input(0);
    const Tensor& b = Input(1);
    EnforceDimensions(type(), "A", a, 4);
    CAFFE_ENFORCE(
        (b.dim() == 3 || (b.dim() == 4 && b.dim(1) == a.dim(1))) && b.dim(0) == a.dim(0) &&
            b.dim(b.dim() - 2) <= a.dim(2) && b.dim(b.dim() - 1) <= a.dim(3),
        type(), ": A of shape ", a.sizes(), " cannot be narrowed to B of shape ", b.sizes());
    return {a.dim(0), a.dim(1), b.dim(b.dim() - 2), b.dim(b.dim() - 1)};
  }
};

// Inputs A, float or int32, and B; output the top left part of A.
class SpatialNarrowAsOp final : public SpatialNarrowAsBase {
 public:
  using SpatialNarrowAsBase::SpatialNarrowAsBase;

  bool RunOnDevice() override {
    return DispatchHelper<TensorTypes<float, int32_t>>::call(this, Input(0));
  }

  template <typename T>
  bool DoRunWithType() {
    const Tensor& a = Input(0);
    const std::vector<int64_t> sizes = NarrowSizes();
    auto* narrow = Output(0, sizes, at::dtype<T>());
    const T* from = a.template data<T>();
    T* to = narrow->template mutable_data<T>();
    for (int64_t plane = 0; plane < sizes[0] * sizes[1]; ++plane) {
      for (int64_t row = 0; row < sizes[2]; ++row) {
        const T* const start = from + (plane * a.dim(2) + row) * a.dim(3);
        to = std::copy(start, start + sizes[3], to);
      }
    }
    return true;
  }
};

// Inputs A, B and the gradient of the output; output that gradient, padded with zeros to the shape
// of A.
class SpatialNarrowAsGradientOp final : public SpatialNarrowAsBase {
 public:
  using SpatialNarrowAsBase::SpatialNarrowAsBase;

  bool RunOnDevice() override {
    return DispatchHelper<TensorTypes<float, int32_t>>::call(this, Input(0));
  }

  template <typename T>
  bool DoRunWithType() {
    const Tensor& a = Input(0);
    const std::vector<int64_t> sizes = NarrowSizes();
    EnforceShape(type(), "dC", Input(2), sizes, "A", a);
    auto* wide = Output(0, a.sizes(), at::dtype<T>());
    const T* from = Input(2).template data<T>();
    T* to = wide->template mutable_data<T>();
    for (int64_t plane = 0; plane < sizes[0] * sizes[1]; ++plane) {
      for (int64_t row = 0; row < a.dim(2); ++row) {
        const int64_t kept = row < sizes[2] ? sizes[3] : 0;
        to = std::copy(from, from + kept, to);
        to = std::fill_n(to, a.dim(3) - kept, T(0));
        from += kept;
      }
    }
    return true;
  }
};

class SampleAsBase : public Operator<CPUContext> {
 public:
  using Operator<CPUContext>::Operator;

 protected:
  // Returns the indices of the rows whose labels are above 0.
  std::vector<int64_t> Rows() {
    const Tensor& x = Input(0);
    const Tensor& labels = Input(1);
    CAFFE_ENFORCE(x.dim() > 0 && labels.dim() > 0 && labels.numel() == labels.dim(0) &&
                      x.dim(0) == labels.dim(0),
                  type(), ": labels of shape ", labels.sizes(), " do not fit X of shape ",
                  x.sizes());
    const int32_t* const values = labels.data<int32_t>();
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < labels.dim(0); ++i) {
      if (values[i] > 0) {
        rows.push_back(i);
      }
    }
    return rows;
  }

  // Returns the shape of X cut to `rows` rows.
  std::vector<int64_t> SampledSizes(int64_t rows) {
    std::vector<int64_t> sizes = Input(0).sizes().vec();
    sizes[0] = rows;
    return sizes;
  }
};

// Inputs X (N, ...) and labels (N), int32; output the rows of X whose label is above 0.
class SampleAsOp final : public SampleAsBase {
 public:
  using SampleAsBase::SampleAsBase;

  bool RunOnDevice() override {
    const std::vector<int64_t> rows = Rows();
    auto* y = Output(0, SampledSizes(rows.size()), at::dtype<float>());
    const int64_t length = Input(0).size_from_dim(1);
    const float* const x = Input(0).data<float>();
    float* to = y->template mutable_data<float>();
    for (const int64_t row : rows) {
      to = std::copy(x + row * length, x + (row + 1) * length, to);
    }
    return true;
  }
};

// Inputs X, labels, dY; output dX, zero in the rows that were left out.
class SampleAsGradientOp final : public SampleAsBase {
 public:
  using SampleAsBase::SampleAsBase;

  bool RunOnDevice() override {
    const Tensor& x = Input(0);
    const std::vector<int64_t> rows = Rows();
    EnforceShape(type(), "dY", Input(2), SampledSizes(rows.size()), "X", x);
    auto* dx = Output(0, x.sizes(), at::dtype<float>());
    const int64_t length = x.size_from_dim(1);
    const float* from = Input(2).data<float>();
    float* const to = dx->template mutable_data<float>();
    std::fill(to, to + x.numel(), 0.0f);
    for (const int64_t row : rows) {
      std::copy(from, from + length, to + row * length);
      from += length;
    }
    return true;
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SpatialNarrowAs, detectron_ext::SpatialNarrowAsOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SpatialNarrowAsGradient,
                                    detectron_ext::SpatialNarrowAsGradientOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SampleAs, detectron_ext::SampleAsOp);
DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(SampleAsGradient, detectron_ext::SampleAsGradientOp);

}  // namespace caffe2
