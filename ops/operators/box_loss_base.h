// What all operators of box losses and their gradients share: arguments, checked inputs, factors.
#pragma once

#include <algorithm>
#include <utility>

#include <caffe2/core/operator.h>

#include "kernels/dense_loss.h"
#include "operators/arguments.h"
#include "operators/box_loss_arguments.h"
#include "operators/select_inputs.h"

namespace detectron_ext {

// Formula: the loss of one difference, as in kernels/dense_loss.h.
template <class Context, class Formula>
class BoxLossBase : public caffe2::Operator<Context> {
 public:
  template <class... Args>
  explicit BoxLossBase(Args&&... args)
      : caffe2::Operator<Context>(std::forward<Args>(args)...),
        loss_(FormulaFromArguments<Formula>(*this)),
        scale_(ScaleArgument(*this)) {}

 protected:
  const Formula loss_;
  const float scale_;
};

// The dense form, of all elements. Inputs Y_hat, Y, alpha_in, alpha_out.
template <class Context, class Formula>
class DenseLossBase : public BoxLossBase<Context, Formula> {
 public:
  using BoxLossBase<Context, Formula>::BoxLossBase;

 protected:
  // Enforces that Y, alpha_in and alpha_out have the number of elements of Y_hat, and that Y has
  // its number of rows.
  DenseLossInputs CheckedInputs() {
    const caffe2::Tensor& y_hat = this->Input(0);
    CAFFE_ENFORCE(y_hat.dim() > 0, this->type(), ": Y_hat must have a first axis, but is a scalar");
    const char* const names[] = {"Y_hat", "Y", "alpha_in", "alpha_out"};
    for (int i = 1; i < 4; ++i) {
      const caffe2::Tensor& other = this->Input(i);
      CAFFE_ENFORCE(other.numel() == y_hat.numel() &&
                        (i > 1 || (other.dim() > 0 && other.dim(0) == y_hat.dim(0))),
                    this->type(), ": ", names[i], " of shape ", other.sizes(),
                    " does not fit Y_hat of shape ", y_hat.sizes(),
                    ": it must have the same number of elements", i == 1 ? " and of rows" : "");
    }
    return {y_hat.numel(), y_hat.template data<float>(), this->Input(1).template data<float>(),
            this->Input(2).template data<float>(), this->Input(3).template data<float>()};
  }

  // Returns scale / N; 0 if there are no rows.
  double Normalizer() {
    const int64_t rows = this->Input(0).dim(0);
    return rows == 0 ? 0.0 : static_cast<double>(this->scale_) / rows;
  }
};

// The select form, of places of a map. Inputs Y_hat, Y, L, S and, if kWeighted, R.
template <class Context, class Formula, bool kWeighted>
class SelectLossBase : public BoxLossBase<Context, Formula> {
 public:
  using BoxLossBase<Context, Formula>::BoxLossBase;

 protected:
  // Enforces the shapes, and that every row of L lies inside Y_hat. The inputs must be on the CPU.
  SelectLossInputs CheckedInputs() {
    SelectLossInputs in = CheckSelectInputs(this->type(), this->Input(0), this->Input(1),
                                            this->Input(2), this->Input(3));
    in.weights = CheckedWeights(in.rows);
    return in;
  }

  // Enforces that R has one weight for each row, and returns it; nullptr without R or rows.
  const float* CheckedWeights(int64_t rows) {
    if (!kWeighted) {
      return nullptr;
    }
    const caffe2::Tensor& weights = this->Input(4);
    CAFFE_ENFORCE(weights.numel() == rows, this->type(), ": R of shape ", weights.sizes(),
                  " must hold one number for each row of Y of shape ", this->Input(1).sizes());
    return rows > 0 ? weights.template data<float>() : nullptr;
  }

  // Returns scale / max(S, 1). S must be on the CPU.
  float Normalizer() { return this->scale_ / ForegroundCount(this->Input(3)); }
};

}  // namespace detectron_ext
