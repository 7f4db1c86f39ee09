// Operator definitions for gradient makers.
//
// The torch package does not export the members of protobuf that Caffe2's SingleGradientDef calls,
// but it exports parsing. So a definition is written in protobuf's wire format and parsed.
#pragma once

#include <string>
#include <vector>

#include <caffe2/core/logging.h>
#include <caffe2/core/operator_gradient.h>
#include <caffe2/utils/proto_utils.h>

namespace detectron_ext {

// Appends a field of bytes: its key, its length in groups of 7 bits, its bytes.
inline void AppendField(int number, const std::string& value, std::string* wire) {
  constexpr int kLengthDelimited = 2;
  wire->push_back(static_cast<char>(number << 3 | kLengthDelimited));
  size_t length = value.size();
  for (; length >= 128; length /= 128) {
    wire->push_back(static_cast<char>(length % 128 + 128));
  }
  wire->push_back(static_cast<char>(length));
  wire->append(value);
}

// Returns the definition of one operator, in the vector that gradient makers return. Caffe2 adds
// the arguments and the device of the forward operator.
inline std::vector<caffe2::OperatorDef> GradientDefinition(
    const std::string& type, const std::vector<std::string>& inputs,
    const std::vector<std::string>& outputs) {
  std::string wire;
  for (const std::string& input : inputs) {
    AppendField(caffe2::OperatorDef::kInputFieldNumber, input, &wire);
  }
  for (const std::string& output : outputs) {
    AppendField(caffe2::OperatorDef::kOutputFieldNumber, output, &wire);
  }
  AppendField(caffe2::OperatorDef::kTypeFieldNumber, type, &wire);
  std::vector<caffe2::OperatorDef> definitions(1);
  CAFFE_ENFORCE(caffe2::ParseProtoFromLargeString(wire, &definitions[0]));
  return definitions;
}

// The gradient maker of a loss. The type of the gradient operator is that of the loss with
// "Gradient" at the end. It takes all inputs of the loss and the gradient of the loss, and returns
// the gradient of the first input.
class LossGradientMaker : public caffe2::GradientMakerBase {
 public:
  using GradientMakerBase::GradientMakerBase;

 private:
  std::vector<caffe2::OperatorDef> GetGradientDefs() override {
    std::vector<std::string> inputs;
    for (int i = 0; i < def_.input_size(); ++i) {
      inputs.push_back(I(i));
    }
    inputs.push_back(GO(0));
    return GradientDefinition(def_.type() + "Gradient", inputs, std::vector<std::string>{GI(0)});
  }
};

}  // namespace detectron_ext
