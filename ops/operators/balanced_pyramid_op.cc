#include "operators/balanced_pyramid_op.h"

#include <string>
#include <vector>

#include "operators/gradient_definition.h"
#include "operators/threads.h"

namespace detectron_ext {

using caffe2::CPUContext;

template <>
bool BalancedPyramidGatherOp<CPUContext>::RunOnDevice() {
  const PyramidShape shape = CheckedPyramid(0, InputSize(), "F_");
  auto* gathered = Output(0, Input(refine_).sizes(), at::dtype<float>());
  GatherPyramid(shape, InputPointers(0, InputSize()), gathered->mutable_data<float>(),
                ThreadPoolFor);
  return true;
}

template <>
bool BalancedPyramidGatherGradientOp<CPUContext>::RunOnDevice() {
  const int levels = InputSize() - 1;
  const PyramidShape shape = CheckedPyramid(0, levels, "F_");
  CheckSameShape(levels, "d_B", refine_, "F_");
  const std::vector<float*> d_levels = OutputsLikeInputs(0, levels);
  GatherPyramidGradient(shape, InputPointers(0, levels), Input(levels).data<float>(), d_levels,
                        ThreadPoolFor);
  return true;
}

template <>
bool BalancedPyramidScatterOp<CPUContext>::RunOnDevice() {
  const int levels = InputSize() - 1;
  const PyramidShape shape = CheckedPyramid(1, levels, "F_");
  CheckSameShape(0, "B", 1 + refine_, "F_");
  const std::vector<float*> scattered = OutputsLikeInputs(1, levels);
  ScatterPyramid(shape, Input(0).data<float>(), InputPointers(1, levels), scattered, ThreadPoolFor);
  return true;
}

template <>
bool BalancedPyramidScatterGradientOp<CPUContext>::RunOnDevice() {
  const PyramidShape shape = CheckedGradients();
  auto* d_balanced = Output(0, Input(0).sizes(), at::dtype<float>());
  ScatterPyramidGradient(shape, Input(0).data<float>(), GradientPointers(),
                         d_balanced->mutable_data<float>(), ThreadPoolFor);
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CPU_OPERATOR(BalancedPyramidGather, detectron_ext::BalancedPyramidGatherOp<CPUContext>);
REGISTER_CPU_OPERATOR(BalancedPyramidGatherGradient,
                      detectron_ext::BalancedPyramidGatherGradientOp<CPUContext>);
REGISTER_CPU_OPERATOR(BalancedPyramidScatter, detectron_ext::BalancedPyramidScatterOp<CPUContext>);
REGISTER_CPU_OPERATOR(BalancedPyramidScatterGradient,
                      detectron_ext::BalancedPyramidScatterGradientOp<CPUContext>);

namespace {

using detectron_ext::kMaxPyramidLevels;
using detectron_ext::kMinPyramidLevels;

const char* const kRefineLevel =
    "(int, no default) index r of the level whose size B has: from 0, the finest of n levels, to "
    "n - 1.";
const char* const kFinestLevel =
    "Finest of n levels, (N, C, H_0, W_0) float32. n is 2 to 8. H_0 and W_0 are above 0; N and C "
    "may be 0.";
const char* const kNextLevel =
    "Next level, (N, C, H_1, W_1) float32. The inputs after it are F_2 to F_{n-1}, "
    "(N, C, H_i, W_i). Levels count as finest first; their sizes may be any sizes above 0.";

// Copies the shapes of inputs [first, end).
std::vector<TensorShape> ShapesOf(const std::vector<TensorShape>& inputs, size_t first,
                                  size_t end) {
  return {inputs.begin() + first, inputs.begin() + end};
}

std::vector<TensorShape> InferGather(const OperatorDef& definition,
                                     const std::vector<TensorShape>& inputs) {
  const int refine = ArgumentHelper(definition).GetSingleArgument<int>("refine_level", -1);
  CAFFE_ENFORCE(refine >= 0 && refine < static_cast<int>(inputs.size()), definition.type(),
                ": refine_level must be one of the ", inputs.size(), " levels, but is ", refine);
  return {inputs[refine]};
}

}  // namespace

OPERATOR_SCHEMA(BalancedPyramidGather)
    .NumInputs(kMinPyramidLevels, kMaxPyramidLevels)
    .NumOutputs(1)
    .TensorInferenceFunction(InferGather)
    .SetDoc(R"DOC(
Mean of all levels of a feature pyramid at the size of level r (Libra R-CNN, arXiv:1904.02701,
section 3.2). Levels before r are adaptive-max-pooled to H_r x W_r, and levels after r are
nearest-resized. Only the order of the levels decides this. A level before r may be smaller than
level r.

The indices along an axis of `in` input and `out` output positions are those of PyTorch. Output i of
pooling covers inputs floor(i * in / out) to ceil((i + 1) * in / out) - 1. Output i of resizing
repeats input floor(i * in / out). The maximum of a window with a NaN is NaN.

If N or C is 0, B is empty. On CUDA, H_i and W_i must be below 32768 and H_i * W_i below 2^30.
)DOC")
    .Arg("refine_level", kRefineLevel)
    .Input(0, "F_0", kFinestLevel)
    .Input(1, "F_1", kNextLevel)
    .Output(0, "B", "Balanced map, (N, C, H_r, W_r) float32.");

OPERATOR_SCHEMA(BalancedPyramidGatherGradient)
    .NumInputs(kMinPyramidLevels + 1, kMaxPyramidLevels + 1)
    .NumOutputs(kMinPyramidLevels, kMaxPyramidLevels)
    .NumInputsOutputs([](int inputs, int outputs) { return inputs == outputs + 1; })
    .TensorInferenceFunction([](const OperatorDef&, const std::vector<TensorShape>& inputs) {
      return ShapesOf(inputs, 0, inputs.size() - 1);
    })
    .SetDoc(R"DOC(
Gradient of BalancedPyramidGather for every level. The inputs are F_0 to F_{n-1}, then d_B. The
gradient of a maximum goes to one element of its window: to the first maximum, row by row from left
to right, or to the last NaN. If N or C is 0, all outputs are empty.
)DOC")
    .Arg("refine_level", kRefineLevel)
    .Input(0, "F_0", kFinestLevel)
    .Input(1, "F_1", kNextLevel)
    .Input(2, "d_B", "Gradient of B, (N, C, H_r, W_r) float32. It is always the last input.")
    .Output(0, "d_F_0", "Gradient of F_0, float32, shaped as F_0.")
    .Output(1, "d_F_1",
            "Gradient of F_1, float32, shaped as F_1. The outputs after it are d_F_2 to "
            "d_F_{n-1}.");

OPERATOR_SCHEMA(BalancedPyramidScatter)
    .NumInputs(kMinPyramidLevels + 1, kMaxPyramidLevels + 1)
    .NumOutputs(kMinPyramidLevels, kMaxPyramidLevels)
    .NumInputsOutputs([](int inputs, int outputs) { return inputs == outputs + 1; })
    .TensorInferenceFunction([](const OperatorDef&, const std::vector<TensorShape>& inputs) {
      return ShapesOf(inputs, 1, inputs.size());
    })
    .SetDoc(R"DOC(
Adds the balanced map to every level of its feature pyramid (Libra R-CNN, arXiv:1904.02701,
section 3.2): G_i is F_i plus B at the size of level i. B is nearest-resized for levels before r and
adaptive-max-pooled for levels after r. The indices of pooling and resizing, and the limits on CUDA,
are those of BalancedPyramidGather. If N or C is 0, all outputs are empty.
)DOC")
    .Arg("refine_level", kRefineLevel)
    .Input(0, "B", "Balanced map, (N, C, H_r, W_r) float32, shaped as F_r.")
    .Input(1, "F_0", kFinestLevel)
    .Input(2, "F_1", kNextLevel)
    .Output(0, "G_0", "Finest level of the new pyramid, float32, shaped as F_0.")
    .Output(1, "G_1",
            "Next level, float32, shaped as F_1. The outputs after it are G_2 to G_{n-1}.");

OPERATOR_SCHEMA(BalancedPyramidScatterGradient)
    .NumInputs(2, kMaxPyramidLevels + 1)
    .NumOutputs(1)
    .IdenticalTypeAndShapeOfInput(0)
    .SetDoc(R"DOC(
Gradient of BalancedPyramidScatter for B. The gradient for F_i is d_G_i itself. The gradient of a
maximum goes to one element of its window: to the first maximum, row by row from left to right, or
to the last NaN.
)DOC")
    .Arg("refine_level", "(int, no default) index r of the level whose size B has, from 0 to 7.")
    .Arg("levels",
         "(list of ints, no default) level i of each of the gradients given, in the order of the "
         "inputs: different numbers from 0 to 7. Leave out the levels on which no loss depends; "
         "their gradients count as 0.")
    .Input(0, "B", "Balanced map, (N, C, H_r, W_r) float32, as in BalancedPyramidScatter.")
    .Input(1, "d_G_0",
           "Gradient d_G_i of the level i that comes first in levels, (N, C, H_i, W_i) float32. "
           "The inputs after it are the gradients of the other levels in levels.")
    .Output(0, "d_B", "Gradient of B, float32, shaped as B.");

namespace {

class GetBalancedPyramidGatherGradient : public GradientMakerBase {
  using GradientMakerBase::GradientMakerBase;
  std::vector<OperatorDef> GetGradientDefs() override {
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
    for (int i = 0; i < def_.input_size(); ++i) {
      inputs.push_back(I(i));
      outputs.push_back(GI(i));
    }
    inputs.push_back(GO(0));
    return detectron_ext::GradientDefinition("BalancedPyramidGatherGradient", inputs, outputs);
  }
};

class GetBalancedPyramidScatterGradient : public GradientMakerBase {
  using GradientMakerBase::GradientMakerBase;
  std::vector<OperatorDef> GetGradientDefs() override {
    std::vector<std::string> inputs{I(0)};
    std::vector<int> levels;
    for (int i = 0; i < def_.output_size(); ++i) {
      if (GradOut(i).IsEmpty()) {
        continue;
      }
      inputs.push_back(GO(i));
      levels.push_back(i);
      SetDense(i + 1, GO(i));
    }
    std::vector<OperatorDef> gradient = detectron_ext::GradientDefinition(
        "BalancedPyramidScatterGradient", inputs, std::vector<std::string>{GI(0)});
    AddArgument("levels", levels, &gradient[0]);
    return gradient;
  }
};

}  // namespace

REGISTER_GRADIENT(BalancedPyramidGather, GetBalancedPyramidGatherGradient);
REGISTER_GRADIENT(BalancedPyramidScatter, GetBalancedPyramidScatterGradient);

}  // namespace caffe2
