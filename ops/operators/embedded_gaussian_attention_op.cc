#include "operators/embedded_gaussian_attention_op.h"

#include <string>
#include <vector>

#include "operators/gradient_definition.h"
#include "operators/threads.h"

namespace detectron_ext {

using caffe2::CPUContext;

template <>
bool EmbeddedGaussianAttentionOp<CPUContext>::RunOnDevice() {
  const AttentionShape shape = CheckedShape();
  auto* out = Output(0, Input(0).sizes(), at::dtype<float>());
  const std::vector<int64_t> rows{shape.images, shape.positions};
  std::vector<float> own_log_sums;
  float* log_sums;
  if (OutputSize() > 1) {
    log_sums = Output(1, rows, at::dtype<float>())->mutable_data<float>();
  } else {
    own_log_sums.resize(shape.images * shape.positions);
    log_sums = own_log_sums.data();
  }
  Attention(shape, Input(0).data<float>(), Input(1).data<float>(), Input(2).data<float>(),
            /*key_biases=*/nullptr, out->mutable_data<float>(), log_sums, ThreadPoolFor);
  return true;
}

template <>
bool EmbeddedGaussianAttentionGradientOp<CPUContext>::RunOnDevice() {
  const AttentionShape shape = CheckedGradientShape();
  const float* theta = Input(0).data<float>();
  const float* phi = Input(1).data<float>();
  const float* g = Input(2).data<float>();
  std::vector<float> own_log_sums;
  const float* log_sums;
  if (InputSize() > 5) {
    log_sums = Input(5).data<float>();
  } else {
    own_log_sums.resize(shape.images * shape.positions);
    Attention(shape, theta, phi, g, nullptr, nullptr, own_log_sums.data(), ThreadPoolFor);
    log_sums = own_log_sums.data();
  }
  AttentionGradient(shape, theta, phi, g, Input(3).data<float>(), log_sums, Input(4).data<float>(),
                    Output(0, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
                    Output(1, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
                    Output(2, Input(0).sizes(), at::dtype<float>())->mutable_data<float>(),
                    ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(EmbeddedGaussianAttention,
                      detectron_ext::EmbeddedGaussianAttentionOp<CPUContext>);
REGISTER_CPU_OPERATOR(EmbeddedGaussianAttentionGradient,
                      detectron_ext::EmbeddedGaussianAttentionGradientOp<CPUContext>);

namespace {

const char* const kUseScale =
    "(bool, default false) divide the products of theta and phi by sqrt(C) before the softmax.";

// Describes the inputs that the operator and its gradient share.
void DescribeAttentionInputs(OpSchema& schema) {
  schema.Arg("use_scale", kUseScale)
      .Input(0, "theta",
             "Embeddings of the positions p, (N, C, H, W) float32. Any of the four sizes may be 0.")
      .Input(1, "phi", "Embeddings of the positions q, float32, shaped as theta.")
      .Input(2, "g", "Values that are averaged over the positions q, float32, shaped as theta.");
}

std::vector<TensorShape> InferAttention(const OperatorDef& definition,
                                        const std::vector<TensorShape>& inputs) {
  std::vector<TensorShape> outputs{inputs[0]};
  if (definition.output_size() > 1 && inputs[0].dims_size() == 4) {
    TensorShape log_sums = inputs[0];
    log_sums.set_dims(1, inputs[0].dims(2) * inputs[0].dims(3));
    log_sums.mutable_dims()->Truncate(2);
    outputs.push_back(log_sums);
  }
  return outputs;
}

}  // namespace

OPERATOR_SCHEMA(EmbeddedGaussianAttention)
    .NumInputs(3)
    .NumOutputs(1, 2)
    .TensorInferenceFunction(InferAttention)
    .SetDoc(R"DOC(
Attention between all positions of a map: the core of the non-local block (Non-local Neural
Networks, arXiv:1711.07971, section 3.2, embedded Gaussian). For each image,

  out[:, p] = sum_q softmax_q(theta[:, p] . phi[:, q]) * g[:, q]

The positions p and q run over the H * W cells of a map. The (H * W, H * W) matrix of the products
is never stored, so the memory grows with H * W, not with its square.

If N or H * W is 0, both outputs are empty; if C is 0, out is. On CUDA, N must be at most 65535,
H * W below 2^30 and C at most 2097120.
)DOC")
    .FillUsing(DescribeAttentionInputs)
    .Output(0, "out", "Averages of g, float32, shaped as theta.")
    .Output(1, "log_sums",
            "Optional, (N, H * W) float32: for each position p the logarithm of the sum over q of "
            "the exponentials in the softmax. The gradient operator is faster if it has them. "
            "They pass no gradient on.");

OPERATOR_SCHEMA(EmbeddedGaussianAttentionGradient)
    .NumInputs(5, 6)
    .NumOutputs(3)
    .TensorInferenceFunction([](const OperatorDef&, const std::vector<TensorShape>& inputs) {
      return std::vector<TensorShape>(3, inputs[0]);
    })
    .SetDoc(R"DOC(
Gradient of EmbeddedGaussianAttention for theta, phi and g. use_scale must be that of
EmbeddedGaussianAttention. Without log_sums the operator computes them again. If theta is empty, the
outputs are, too.
)DOC")
    .FillUsing(DescribeAttentionInputs)
    .Input(3, "out", "First output of EmbeddedGaussianAttention, float32, shaped as theta.")
    .Input(4, "d_out", "Gradient of out, float32, shaped as theta.")
    .Input(5, "log_sums",
           "Optional second output of EmbeddedGaussianAttention, (N, H * W) float32.")
    .Output(0, "d_theta", "Gradient of theta, float32, shaped as theta.")
    .Output(1, "d_phi", "Gradient of phi, float32, shaped as theta.")
    .Output(2, "d_g", "Gradient of g, float32, shaped as theta.");

namespace {

class GetEmbeddedGaussianAttentionGradient : public GradientMakerBase {
  using GradientMakerBase::GradientMakerBase;
  std::vector<OperatorDef> GetGradientDefs() override {
    std::vector<std::string> inputs{I(0), I(1), I(2), O(0), GO(0)};
    if (def_.output_size() > 1) {
      inputs.push_back(O(1));
    }
    return detectron_ext::GradientDefinition("EmbeddedGaussianAttentionGradient", inputs,
                                             std::vector<std::string>{GI(0), GI(1), GI(2)});
  }
};

}  // namespace

REGISTER_GRADIENT(EmbeddedGaussianAttention, GetEmbeddedGaussianAttentionGradient);

}  // namespace caffe2
