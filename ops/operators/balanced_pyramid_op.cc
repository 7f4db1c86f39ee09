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
    "(int) index r of the level that all are gathered to, 0 the finest; no default.";

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
The balanced level of a feature pyramid (Libra R-CNN, arXiv:1904.02701, section 3.2): the mean of
all levels at the size of level r. Levels before r are adaptive-max-pooled to that size, levels
after it nearest-resized, whatever their sizes are. Along an axis, position i of a pooled level
covers input positions floor(i * in / out) to ceil((i + 1) * in / out); position i of a resized
level repeats input position floor(i * in / out). A NaN in a pooling window makes its maximum NaN.
The gradient of a maximum goes to the first position in scan order that holds it.
)DOC")
    .Arg("refine_level", kRefineLevel)
    .Input(0, "F_0",
           "Finest level, (N, C, H_0, W_0). Up to seven coarser ones follow, "
           "(N, C, H_i, W_i).")
    .Input(1, "F_1", "Next level.")
    .Output(0, "B", "Balanced level, (N, C, H_r, W_r).");

OPERATOR_SCHEMA(BalancedPyramidGatherGradient)
    .NumInputs(kMinPyramidLevels + 1, kMaxPyramidLevels + 1)
    .NumOutputs(kMinPyramidLevels, kMaxPyramidLevels)
    .NumInputsOutputs([](int inputs, int outputs) { return inputs == outputs + 1; })
    .TensorInferenceFunction([](const OperatorDef&, const std::vector<TensorShape>& inputs) {
      return ShapesOf(inputs, 0, inputs.size() - 1);
    })
    .SetDoc("Gradient of BalancedPyramidGather for every level. Inputs: F_0, F_1, ..., d_B.")
    .Arg("refine_level", kRefineLevel)
    .Input(0, "F_0", "See BalancedPyramidGather; all levels.")
    .Input(1, "F_1", "Next level.")
    .Input(2, "d_B", "Gradient of B; always the last input.")
    .Output(0, "d_F_0", "Gradient of F_0, of its shape; the other levels' follow.")
    .Output(1, "d_F_1", "Gradient of F_1.");

OPERATOR_SCHEMA(BalancedPyramidScatter)
    .NumInputs(kMinPyramidLevels + 1, kMaxPyramidLevels + 1)
    .NumOutputs(kMinPyramidLevels, kMaxPyramidLevels)
    .NumInputsOutputs([](int inputs, int outputs) { return inputs == outputs + 1; })
    .TensorInferenceFunction([](const OperatorDef&, const std::vector<TensorShape>& inputs) {
      return ShapesOf(inputs, 1, inputs.size());
    })
    .SetDoc(R"DOC(
Adds a balanced level to every level of the pyramid it was gathered from (Libra R-CNN,
arXiv:1904.02701, section 3.2): G_i = F_i + B at the size of level i, nearest-resized for levels
before r and adaptive-max-pooled for levels after it. Index rules as in BalancedPyramidGather.
)DOC")
    .Arg("refine_level", kRefineLevel)
    .Input(0, "B", "Balanced level, of the shape of F_r.")
    .Input(1, "F_0",
           "Finest level, (N, C, H_0, W_0). Up to seven coarser ones follow, "
           "(N, C, H_i, W_i).")
    .Input(2, "F_1", "Next level.")
    .Output(0, "G_0", "Finest level of the new pyramid, of the shape of F_0; the others follow.")
    .Output(1, "G_1", "Next level.");

OPERATOR_SCHEMA(BalancedPyramidScatterGradient)
    .NumInputs(2, kMaxPyramidLevels + 1)
    .NumOutputs(1)
    .IdenticalTypeAndShapeOfInput(0)
    .SetDoc("Gradient of BalancedPyramidScatter for B; that for F_i is d_G_i itself.")
    .Arg("refine_level", kRefineLevel)
    .Arg("levels",
         "(ints) the level of each of the gradients given, in their order; levels that "
         "nothing depends on are left out.")
    .Input(0, "B", "See BalancedPyramidScatter.")
    .Input(1, "d_G_0", "Gradient of the first level named in levels; the others' follow.")
    .Output(0, "d_B", "Gradient of B, of its shape.");

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
