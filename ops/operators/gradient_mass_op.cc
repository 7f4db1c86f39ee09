#include "operators/gradient_mass_op.h"

#include "operators/threads.h"

namespace detectron_ext {

using caffe2::CPUContext;

template <>
bool NegativeGradientMassOp<CPUContext>::RunOnDevice() {
  const GradientMassInputs in = CheckedInputs();
  for (int64_t i = 0; i < Input(1).numel(); ++i) {
    CAFFE_ENFORCE(in.bins[i] >= 0 && in.bins[i] <= num_bins_, type(), ": B of shape ",
                  Input(1).sizes(), " holds ", in.bins[i], "; bins are from 0 to num_bins, ",
                  num_bins_);
  }
  float* const mass = Output(0, {num_bins_}, at::dtype<float>())->mutable_data<float>();
  NegativeGradientMass(in, mass, ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(NegativeGradientMass, detectron_ext::NegativeGradientMassOp<CPUContext>);

namespace {

// The masses have the type of X and one dimension. One is taken from X, because the torch package
// does not export the function of protobuf that adds one (operators/protobuf_symbols.cc).
std::vector<TensorShape> InferMasses(const OperatorDef& definition,
                                     const std::vector<TensorShape>& inputs) {
  TensorShape masses = inputs[0];
  if (masses.dims_size() > 0) {
    masses.mutable_dims()->Truncate(1);
    masses.set_dims(0, ArgumentHelper(definition).GetSingleArgument<int>("num_bins", 3));
  }
  return {masses};
}

}  // namespace

OPERATOR_SCHEMA(NegativeGradientMass)
    .NumInputs(2)
    .NumOutputs(1)
    .TensorInferenceFunction(InferMasses)
    .SetDoc(R"DOC(
How much of the sigmoid focal loss's gradient comes from the negatives of each bin: the sum over the
anchors of the bin, and over their classes, of the absolute derivative of the term of a negative,

  -(1 - alpha) * p^gamma * ln(1 - p)

with p the sigmoid of a logit. It is not divided by the number of foreground anchors. The operator
has no gradient. If X has no elements, all masses are 0.
)DOC")
    .Arg("gamma", "(float, at least 0, default 2.0) focusing exponent.")
    .Arg("alpha",
         "(float, from 0 to 1, default 0.25) weight of the logit of an anchor's own class. The "
         "weight of the logits of a negative is 1 - alpha.")
    .Arg("num_classes", "(int, at least 1, default 80) number of classes of an anchor.")
    .Arg("num_bins", "(int, from 1 to 4096, default 3) number K of bins.")
    .Input(0, "X", "Logits, (N, A * num_classes, H, W) float32, as in SigmoidFocalLoss.")
    .Input(1, "B",
           "Bins of the anchors, (N, A, H, W) int32: 1 to K for the negatives, 0 for anchors that "
           "are not counted, whatever their logits are. On the CPU other bins are an error. CUDA "
           "does not check bins and does not count anchors with others.")
    .Output(0, "masses", "The sum of each bin, (K,) float32; bin k + 1 is at place k.");

NO_GRADIENT(NegativeGradientMass);

}  // namespace caffe2
