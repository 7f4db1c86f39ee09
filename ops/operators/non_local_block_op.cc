// NonLocalBlock: the whole non-local block as one operator. The block also exists as six layers. In
// the forward pass the operator keeps two maps fewer than they do. In the backward pass it needs a
// fraction of their memory.
#include <cmath>
#include <string>
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/non_local_block.h"
#include "operators/checks.h"
#include "operators/gradient_definition.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

// The indices of the inputs of the gradient operator. The forward operator has those up to kOutB.
// Output i of the gradient operator is the gradient of input i of the forward operator.
enum Inputs {
  kX,
  kThetaW,
  kThetaB,
  kPhiW,
  kPhiB,
  kGW,
  kGB,
  kOutW,
  kOutB,
  kAverages,
  kLogSums,
  kDY
};
constexpr int kWeights = kOutB;  // the number of weights: the inputs of the block after X

// What the operator and its gradient share: the checks, and the inputs in the kernel's form.
class NonLocalBlockBase : public Operator<CPUContext> {
 public:
  NonLocalBlockBase(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        use_scale_(GetSingleArgument<bool>("use_scale", false)) {}

 protected:
  // Enforces the shapes of X and of the weights.
  NonLocalShape CheckedShape() {
    const Tensor& x = Input(kX);
    EnforceDimensions(type(), "X", x, 4);
    const int64_t channels = x.dim(1);
    CAFFE_ENFORCE(channels > 0, type(), ": X of shape ", x.sizes(), " must have channels");
    const Tensor& theta_w = Input(kThetaW);
    EnforceDimensions(type(), "theta_w", theta_w, 4);
    const int64_t embedded = theta_w.dim(0);
    CAFFE_ENFORCE(embedded > 0, type(), ": theta_w of shape ", theta_w.sizes(),
                  " must have filters");
    EnforceShape(type(), "theta_w", theta_w, {embedded, channels, 1, 1}, "X", x);
    EnforceShape(type(), "theta_b", Input(kThetaB), {embedded}, "theta_w", theta_w);
    EnforceSameShape(type(), "phi_w", Input(kPhiW), "theta_w", theta_w);
    EnforceShape(type(), "phi_b", Input(kPhiB), {embedded}, "theta_w", theta_w);
    EnforceSameShape(type(), "g_w", Input(kGW), "theta_w", theta_w);
    EnforceShape(type(), "g_b", Input(kGB), {embedded}, "theta_w", theta_w);
    EnforceShape(type(), "out_w", Input(kOutW), {channels, embedded, 1, 1}, "theta_w", theta_w);
    EnforceShape(type(), "out_b", Input(kOutB), {channels}, "X", x);
    const float scale = use_scale_ ? 1.0f / std::sqrt(static_cast<float>(embedded)) : 1.0f;
    return {x.dim(0), channels, x.dim(2) * x.dim(3), embedded, scale};
  }

  NonLocalWeights Weights() {
    return {Data(kThetaW), Data(kThetaB), Data(kPhiW), Data(kGW),
            Data(kGB),     Data(kOutW),   Data(kOutB)};
  }

  const float* Data(int input) { return Input(input).data<float>(); }

 private:
  const bool use_scale_;
};

class NonLocalBlockOp final : public NonLocalBlockBase {
 public:
  using NonLocalBlockBase::NonLocalBlockBase;

  bool RunOnDevice() override {
    const NonLocalShape shape = CheckedShape();
    auto* y = Output(0, Input(kX).sizes(), at::dtype<float>());
    auto* averages = Output(1, Input(kX).sizes(), at::dtype<float>());
    auto* log_sums = Output(2, {shape.images, shape.positions}, at::dtype<float>());
    NonLocalBlock(shape, Data(kX), Weights(), y->mutable_data<float>(),
                  averages->mutable_data<float>(), log_sums->mutable_data<float>(), ThreadPoolFor);
    return true;
  }
};

class NonLocalBlockGradientOp final : public NonLocalBlockBase {
 public:
  using NonLocalBlockBase::NonLocalBlockBase;

  bool RunOnDevice() override {
    const NonLocalShape shape = CheckedShape();
    EnforceSameShape(type(), "averages", Input(kAverages), "X", Input(kX));
    EnforceShape(type(), "log_sums", Input(kLogSums), {shape.images, shape.positions}, "X",
                 Input(kX));
    EnforceSameShape(type(), "d_Y", Input(kDY), "X", Input(kX));
    NonLocalBlockGradient(shape, Data(kX), Weights(), Data(kAverages), Data(kLogSums), Data(kDY),
                          Gradient(kX),
                          {Gradient(kThetaW), Gradient(kThetaB), Gradient(kPhiW), Gradient(kPhiB),
                           Gradient(kGW), Gradient(kGB), Gradient(kOutW), Gradient(kOutB)},
                          ThreadPoolFor);
    return true;
  }

 private:
  // Makes the gradient of an input and returns its memory.
  float* Gradient(int input) {
    return Output(input, Input(input).sizes(), at::dtype<float>())->mutable_data<float>();
  }
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(NonLocalBlock, detectron_ext::NonLocalBlockOp);
REGISTER_CPU_OPERATOR(NonLocalBlockGradient, detectron_ext::NonLocalBlockGradientOp);

namespace {

OpSchema& DescribeBlockInputs(OpSchema& schema) {
  return schema
      .Arg("use_scale",
           "(bool, default false) divide the products of the embeddings by sqrt(K) before the "
           "softmax.")
      .Input(0, "X", "Map, (N, C, H, W) float32. C is above 0; N, H and W may be 0.")
      .Input(1, "theta_w",
             "Filters of the embedding of the positions p, (K, C, 1, 1) float32. K is above 0.")
      .Input(2, "theta_b", "Biases of theta, (K) float32.")
      .Input(3, "phi_w", "Filters of the embedding of the positions q, (K, C, 1, 1) float32.")
      .Input(4, "phi_b",
             "Biases of phi, (K) float32. Y does not depend on them: they add the same number to "
             "all products of a position p, which the softmax removes.")
      .Input(5, "g_w", "Filters of the values that are averaged, (K, C, 1, 1) float32.")
      .Input(6, "g_b", "Biases of g, (K) float32.")
      .Input(7, "out_w", "Filters of the last convolution, (C, K, 1, 1) float32.")
      .Input(8, "out_b", "Biases of the last convolution, (C) float32.");
}

std::vector<TensorShape> InferNonLocalBlock(const OperatorDef&,
                                            const std::vector<TensorShape>& inputs) {
  std::vector<TensorShape> outputs(3, inputs[0]);
  if (inputs[0].dims_size() == 4) {
    outputs[2].set_dims(1, inputs[0].dims(2) * inputs[0].dims(3));
    outputs[2].mutable_dims()->Truncate(2);
  }
  return outputs;
}

std::vector<TensorShape> InferNonLocalBlockGradient(const OperatorDef&,
                                                    const std::vector<TensorShape>& inputs) {
  return std::vector<TensorShape>(inputs.begin(), inputs.begin() + 1 + detectron_ext::kWeights);
}

}  // namespace

OPERATOR_SCHEMA(NonLocalBlock)
    .NumInputs(1 + detectron_ext::kWeights)
    .NumOutputs(3)
    .TensorInferenceFunction(InferNonLocalBlock)
    .SetDoc(R"DOC(
A map plus the attention between all its positions: the embedded-Gaussian non-local block (Non-local
Neural Networks, arXiv:1711.07971, section 3). theta, phi, g and out are convolutions with 1x1
filters. For each image,

  Y[:, p] = X[:, p] + out(sum_q softmax_q(theta(X[:, p]) . phi(X[:, q])) * g(X[:, q]))

The positions p and q run over the H * W cells of a map. Up to rounding, Y is the result of four
Convs, EmbeddedGaussianAttention and Sum. In training the block needs a third of their memory: it
stores none of the embeddings, and no (H * W, H * W) matrix.

If N or H * W is 0, the outputs are empty. There is no CUDA implementation: on CUDA build the block
from these layers, as detectron_ext.ops.non_local_block does.
)DOC")
    .FillUsing(DescribeBlockInputs)
    .Output(0, "Y", "Result, float32, shaped as X.")
    .Output(1, "averages",
            "Averages of X over the positions q with the weights of the softmax, float32, shaped "
            "as X. The gradient operator needs them. They pass no gradient on.")
    .Output(2, "log_sums",
            "(N, H * W) float32: for each position p the logarithm of the sum over q of the "
            "exponentials in the softmax, computed without phi_b. The gradient operator needs "
            "them. They pass no gradient on.");

OPERATOR_SCHEMA(NonLocalBlockGradient)
    .NumInputs(4 + detectron_ext::kWeights)
    .NumOutputs(1 + detectron_ext::kWeights)
    .TensorInferenceFunction(InferNonLocalBlockGradient)
    .SetDoc(R"DOC(
Gradient of NonLocalBlock for all of its inputs. use_scale must be that of NonLocalBlock. If N or
H * W is 0, d_X is empty and the other gradients are 0.
)DOC")
    .FillUsing(DescribeBlockInputs)
    .Input(9, "averages", "Second output of NonLocalBlock, float32, shaped as X.")
    .Input(10, "log_sums", "Third output of NonLocalBlock, (N, H * W) float32.")
    .Input(11, "d_Y", "Gradient of Y, float32, shaped as X.")
    .Output(0, "d_X", "Gradient of X, float32, shaped as X.")
    .Output(1, "d_theta_w", "Gradient of theta_w, (K, C, 1, 1) float32.")
    .Output(2, "d_theta_b", "Gradient of theta_b, (K) float32.")
    .Output(3, "d_phi_w", "Gradient of phi_w, (K, C, 1, 1) float32.")
    .Output(4, "d_phi_b", "Gradient of phi_b, (K) float32: 0 everywhere.")
    .Output(5, "d_g_w", "Gradient of g_w, (K, C, 1, 1) float32.")
    .Output(6, "d_g_b", "Gradient of g_b, (K) float32.")
    .Output(7, "d_out_w", "Gradient of out_w, (C, K, 1, 1) float32.")
    .Output(8, "d_out_b", "Gradient of out_b, (C) float32.");

namespace {

class GetNonLocalBlockGradient : public GradientMakerBase {
  using GradientMakerBase::GradientMakerBase;
  std::vector<OperatorDef> GetGradientDefs() override {
    std::vector<std::string> inputs;
    std::vector<std::string> gradients;
    for (int i = 0; i < def_.input_size(); ++i) {
      inputs.push_back(I(i));
      gradients.push_back(GI(i));
    }
    inputs.push_back(O(1));
    inputs.push_back(O(2));
    inputs.push_back(GO(0));
    return detectron_ext::GradientDefinition("NonLocalBlockGradient", inputs, gradients);
  }
};

}  // namespace

REGISTER_GRADIENT(NonLocalBlock, GetNonLocalBlockGradient);

}  // namespace caffe2
