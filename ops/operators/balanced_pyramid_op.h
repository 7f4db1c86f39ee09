// BalancedPyramidGather and BalancedPyramidScatter: from all levels of a pyramid to one and back.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/balanced_pyramid.h"

namespace detectron_ext {

// What the four operators share: the refine level and the check that inputs form a pyramid.
template <class Context>
class BalancedPyramidBase : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit BalancedPyramidBase(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        refine_(this->template GetSingleArgument<int>("refine_level", -1)) {}

 protected:
  // Enforces that inputs [first, first + levels) are the levels of one pyramid. Returns its shape.
  // name: their name in the schema, without the number, such as "F_".
  PyramidShape CheckedPyramid(int first, int levels, const char* name) {
    CAFFE_ENFORCE(refine_ >= 0 && refine_ < levels, this->type(),
                  ": refine_level must be one of the ", levels, " levels, 0 to ", levels - 1,
                  ", but is ", refine_);
    const caffe2::Tensor& finest = this->Input(first);
    CAFFE_ENFORCE(finest.dim() == 4, this->type(), ": ", name, 0, " of shape ", finest.sizes(),
                  " must be (N, C, H, W)");
    PyramidShape shape{finest.dim(0) * finest.dim(1), refine_, {}};
    for (int i = 0; i < levels; ++i) {
      const caffe2::Tensor& level = this->Input(first + i);
      CAFFE_ENFORCE(level.dim() == 4 && level.dim(0) == finest.dim(0) &&
                        level.dim(1) == finest.dim(1) && level.dim(2) > 0 && level.dim(3) > 0,
                    this->type(), ": ", name, i, " of shape ", level.sizes(),
                    " must be (N, C, H, W) with the N and C of ", name, 0, " of shape ",
                    finest.sizes(), " and positive H and W");
      shape.sizes.push_back({level.dim(2), level.dim(3)});
    }
    return shape;
  }

  // Enforces that an input has the shape of another one.
  // other_name: the other one's name, without the refine level at its end.
  void CheckSameShape(int input, const char* name, int other, const char* other_name) {
    const auto sizes = this->Input(input).sizes();
    const auto other_sizes = this->Input(other).sizes();
    CAFFE_ENFORCE(sizes == other_sizes, this->type(), ": ", name, " of shape ", sizes,
                  " must have the shape of ", other_name, refine_, " at refine_level ", refine_,
                  ", ", other_sizes);
  }

  // Returns the data of inputs [first, first + count).
  std::vector<const float*> InputPointers(int first, int count) {
    std::vector<const float*> pointers;
    for (int i = first; i < first + count; ++i) {
      pointers.push_back(this->Input(i).template data<float>());
    }
    return pointers;
  }

  // Makes outputs [0, count) with the shapes of inputs [first, first + count). Returns their data.
  std::vector<float*> OutputsLikeInputs(int first, int count) {
    std::vector<float*> pointers;
    for (int i = 0; i < count; ++i) {
      auto* output = this->Output(i, this->Input(first + i).sizes(), at::dtype<float>());
      pointers.push_back(output->template mutable_data<float>());
    }
    return pointers;
  }

  const int refine_;
};

template <class Context>
class BalancedPyramidGatherOp final : public BalancedPyramidBase<Context> {
 public:
  using BalancedPyramidBase<Context>::BalancedPyramidBase;
  bool RunOnDevice() override;
};

template <class Context>
class BalancedPyramidGatherGradientOp final : public BalancedPyramidBase<Context> {
 public:
  using BalancedPyramidBase<Context>::BalancedPyramidBase;
  bool RunOnDevice() override;

 private:
  caffe2::Tensor scratch_;  // on CUDA
};

template <class Context>
class BalancedPyramidScatterOp final : public BalancedPyramidBase<Context> {
 public:
  using BalancedPyramidBase<Context>::BalancedPyramidBase;
  bool RunOnDevice() override;
};

template <class Context>
class BalancedPyramidScatterGradientOp final : public BalancedPyramidBase<Context> {
 public:
  template <class... Args>
  explicit BalancedPyramidScatterGradientOp(Args&&... args)
      : BalancedPyramidBase<Context>(std::forward<Args>(args)...),
        levels_(this->template GetRepeatedArgument<int>("levels")) {}
  bool RunOnDevice() override;

 private:
  // Enforces the shapes of B and of the gradients given. Returns the shape of a pyramid that ends
  // with the last level that is used. Levels without a gradient get the size of B, which is not
  // used.
  PyramidShape CheckedGradients();

  // Returns a pointer to the gradient of each level, null if none is given.
  std::vector<const float*> GradientPointers();

  const std::vector<int> levels_;
  caffe2::Tensor scratch_;  // on CUDA
};

template <class Context>
PyramidShape BalancedPyramidScatterGradientOp<Context>::CheckedGradients() {
  const caffe2::Tensor& balanced = this->Input(0);
  CAFFE_ENFORCE(balanced.dim() == 4 && balanced.dim(2) > 0 && balanced.dim(3) > 0, this->type(),
                ": B of shape ", balanced.sizes(), " must be (N, C, H, W) with positive H and W");
  CAFFE_ENFORCE(static_cast<int>(levels_.size()) == this->InputSize() - 1, this->type(),
                ": the argument levels holds ", levels_.size(),
                " levels; it must hold one for each of the ", this->InputSize() - 1,
                " gradients given");
  CAFFE_ENFORCE(this->refine_ >= 0 && this->refine_ < kMaxPyramidLevels, this->type(),
                ": refine_level must be 0 to ", kMaxPyramidLevels - 1, ", but is ", this->refine_);
  const PlaneSize refined{balanced.dim(2), balanced.dim(3)};
  PyramidShape shape{balanced.dim(0) * balanced.dim(1), this->refine_,
                     std::vector<PlaneSize>(kMaxPyramidLevels, refined)};
  for (size_t k = 0; k < levels_.size(); ++k) {
    const caffe2::Tensor& gradient = this->Input(k + 1);
    const int level = levels_[k];
    CAFFE_ENFORCE(level >= 0 && level < kMaxPyramidLevels &&
                      std::count(levels_.begin(), levels_.end(), level) == 1,
                  this->type(), ": the argument levels holds ", level,
                  "; it must hold different numbers from 0 to ", kMaxPyramidLevels - 1);
    CAFFE_ENFORCE(gradient.dim() == 4 && gradient.dim(0) == balanced.dim(0) &&
                      gradient.dim(1) == balanced.dim(1) && gradient.dim(2) > 0 &&
                      gradient.dim(3) > 0 &&
                      (level != this->refine_ || gradient.sizes() == balanced.sizes()),
                  this->type(), ": d_G_", level, " of shape ", gradient.sizes(),
                  " does not fit B of shape ", balanced.sizes());
    shape.sizes[level] = {gradient.dim(2), gradient.dim(3)};
  }
  int last = std::max(this->refine_, kMinPyramidLevels - 1);
  for (const int level : levels_) {
    last = std::max(last, level);
  }
  shape.sizes.resize(last + 1);
  return shape;
}

template <class Context>
std::vector<const float*> BalancedPyramidScatterGradientOp<Context>::GradientPointers() {
  std::vector<const float*> pointers(kMaxPyramidLevels, nullptr);
  for (size_t k = 0; k < levels_.size(); ++k) {
    pointers[levels_[k]] = this->Input(k + 1).template data<float>();
  }
  return pointers;
}

}  // namespace detectron_ext
