// Caffe2's own implementation of an operator that this library replaces.
#pragma once

#include <memory>

#include <caffe2/core/operator.h>

namespace detectron_ext {

// Runs Caffe2's operator in the cases that a replacement does not cover. The operator is created on
// first use.
class StockOperator {
 public:
  // twin: another type under which Caffe2 registers the same implementation, such as Conv2D for
  // Conv.
  StockOperator(const caffe2::OperatorDef& definition, caffe2::Workspace* workspace,
                const char* twin)
      : definition_(definition), workspace_(workspace), twin_(twin) {}

  bool Run() {
    if (!operator_) {
      operator_ = caffe2::CPUOperatorRegistry()->Create(twin_, definition_, workspace_);
    }
    return operator_->Run();
  }

 private:
  const caffe2::OperatorDef definition_;
  caffe2::Workspace* const workspace_;
  const char* const twin_;
  std::unique_ptr<caffe2::OperatorBase> operator_;
};

}  // namespace detectron_ext
