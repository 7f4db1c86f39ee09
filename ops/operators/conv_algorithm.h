// How a convolution on the CPU is computed: what its arguments and the environment ask for.
#pragma once

#include <cstdlib>
#include <string>

#include <caffe2/core/operator.h>

#include "kernels/winograd_convolution.h"

namespace detectron_ext {

// The choice of an operator. It is made when the operator is created.
//
// The environment variable DETECTRON_EXT_FAST_CONV goes before the arguments. 0 asks for Caffe2's
// own operator, and so does the argument fast_conv=0. The other values of the variable are those of
// the argument `algorithm`: auto, direct, winograd, winograd_2x2 and winograd_4x4. 1 or empty text
// leaves the choice to the arguments.
class ConvAlgorithm {
 public:
  explicit ConvAlgorithm(const caffe2::OperatorDef& definition) {
    using Arguments = caffe2::ArgumentHelper;
    using Definition = caffe2::OperatorDef;
    const char* const variable = std::getenv("DETECTRON_EXT_FAST_CONV");
    const std::string wanted = variable != nullptr ? variable : "";
    const bool by_variable = !wanted.empty() && wanted != "1";
    const bool fast = Arguments::GetSingleArgument<Definition, bool>(definition, "fast_conv", true);
    stock_ = by_variable ? wanted == "0" : !fast;
    if (!stock_) {
      name_ = by_variable
          ? wanted
          : Arguments::GetSingleArgument<Definition, std::string>(definition, "algorithm", "auto");
      CAFFE_ENFORCE(name_ == "auto" || name_ == "direct" || name_ == "winograd" ||
                        name_ == "winograd_2x2" || name_ == "winograd_4x4",
                    definition.type(), ": ", by_variable ? "DETECTRON_EXT_FAST_CONV" : "algorithm",
                    " is \"", name_, "\"; it must be ", by_variable ? "0, 1, " : "",
                    "auto, direct, winograd, winograd_2x2 or winograd_4x4");
    }
  }

  // Whether Caffe2's own operator runs.
  bool stock() const { return stock_; }

  // Returns the tile of Winograd's minimal filtering for a convolution that it can compute, or kNone
  // for the direct sum.
  WinogradTile TileFor(const WinogradShape& shape, ConvolutionPass pass) const {
    if (name_ == "auto") {
      return FastestTile(shape, pass);
    }
    if (name_ == "winograd") {
      return FastestWinogradTile(shape, pass);
    }
    return name_ == "winograd_2x2" ? WinogradTile::k2
        : name_ == "winograd_4x4"  ? WinogradTile::k4
                                   : WinogradTile::kNone;
  }

 private:
  bool stock_;
  std::string name_;
};

}  // namespace detectron_ext
