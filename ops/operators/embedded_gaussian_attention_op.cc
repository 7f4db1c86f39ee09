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

const char* const kUseScale = "(bool, default 0) divide the scores by sqrt(C).";

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
Attention of every position to every other (Non-local neural networks, arXiv:1711.07971,
equation 4, the embedded Gaussian), for each image:

  out[:, i] = sum_j softmax_j(theta[:, i] . phi[:, j]) g[:, j]

The matrix of scores is never held: memory grows with H * W. The gradient computes the scores
again; given log_sums it saves the pass that finds their normalisation.
)DOC")
    .Arg("use_scale", kUseScale)
    .Input(0, "theta", "Embedding of the attending positions, (N, C, H, W).")
    .Input(1, "phi", "Embedding of the positions attended to, of the same shape.")
    .Input(2, "g", "What is averaged, of the same shape.")
    .Output(0, "out", "Attention, of the same shape.")
    .Output(1, "log_sums",
            "Optional, (N, H * W): the logarithm of each position's sum of "
            "exponentials. It makes the gradient faster and has none itself.");

OPERATOR_SCHEMA(EmbeddedGaussianAttentionGradient)
    .NumInputs(5, 6)
    .NumOutputs(3)
    .TensorInferenceFunction([](const OperatorDef&, const std::vector<TensorShape>& inputs) {
      return std::vector<TensorShape>(3, inputs[0]);
    })
    .SetDoc("Gradient of EmbeddedGaussianAttention for theta, phi and g.")
    .Arg("use_scale", kUseScale)
    .Input(0, "theta", "See EmbeddedGaussianAttention.")
    .Input(1, "phi", "See EmbeddedGaussianAttention.")
    .Input(2, "g", "See EmbeddedGaussianAttention.")
    .Input(3, "out", "Output of EmbeddedGaussianAttention.")
    .Input(4, "d_out", "Gradient of out.")
    .Input(5, "log_sums", "Optional second output of EmbeddedGaussianAttention.")
    .Output(0, "d_theta", "Gradient of theta.")
    .Output(1, "d_phi", "Gradient of phi.")
    .Output(2, "d_g", "Gradient of g.");

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
