#include "operators/select_balanced_l1_loss_op.h"

#include "operators/checks.h"
#include "operators/cuda_helpers.h"
#include "operators/select_inputs.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::CUDAContext;
using caffe2::Tensor;

// Enforces what CheckSelectInputs does on the CPU. Waits for the device, which finds the first row
// of L outside Y_hat and writes it to `found`.
SelectionPointers CheckSelectInputsCuda(const std::string& type, const Tensor& y_hat,
                                        const Tensor& y, const Tensor& places, const Tensor& s,
                                        Tensor* found, CUDAContext* context) {
  SelectionPointers in{};
  in.rows = CheckSelectShapes(type, y_hat, y, places, s);
  CAFFE_ENFORCE(in.rows < kMaxCudaRows, type, ": ", in.rows, " rows are too many for CUDA");
  in.n = y_hat.dim(0);
  in.c = y_hat.dim(1);
  in.h = y_hat.dim(2);
  in.w = y_hat.dim(3);
  in.prediction = y_hat.data<float>();
  in.normalizer = s.data<float>();
  if (in.rows == 0) {
    return in;
  }
  in.target = y.data<float>();
  in.places = places.data<float>();
  int* first_outside = Scratch<int>(1, found);
  FindOutsideCuda(in, first_outside, context->cuda_stream());
  int row = 0;
  context->CopyBytes<CUDAContext, CPUContext>(sizeof(row), first_outside, &row);
  context->FinishDeviceComputation();
  if (row < in.rows) {
    float place[4];
    context->CopyBytes<CUDAContext, CPUContext>(sizeof(place), in.places + 4 * row, place);
    context->FinishDeviceComputation();
    FailOutside(type, y_hat, places, row, place);
  }
  return in;
}

}  // namespace

template <>
bool SelectBalancedL1LossOp<CUDAContext>::RunOnDevice() {
  const SelectionPointers in =
      CheckSelectInputsCuda(type(), Input(0), Input(1), Input(2), Input(3), &found_, &context_);
  auto* loss = Output(0, std::vector<int64_t>(), at::dtype<float>());
  SelectBalancedL1LossCuda(loss_, in, scale_, PartialSums(&scratch_), loss->mutable_data<float>(),
                           context_.cuda_stream());
  return true;
}

template <>
bool SelectBalancedL1LossGradientOp<CUDAContext>::RunOnDevice() {
  const SelectionPointers in =
      CheckSelectInputsCuda(type(), Input(0), Input(1), Input(2), Input(3), &found_, &context_);
  EnforceOneNumber(type(), "d_loss", Input(4));
  auto* d_prediction = Output(0, Input(0).sizes(), at::dtype<float>());
  SelectBalancedL1GradientCuda(
      loss_, in, scale_, Input(4).data<float>(), d_prediction->mutable_data<float>(),
      Scratch<int32_t>(SelectScratch(in.rows), &scratch_), context_.cuda_stream());
  return true;
}

}  // namespace detectron_ext

namespace caffe2 {

REGISTER_CUDA_OPERATOR(SelectBalancedL1Loss, detectron_ext::SelectBalancedL1LossOp<CUDAContext>);
REGISTER_CUDA_OPERATOR(SelectBalancedL1LossGradient,
                       detectron_ext::SelectBalancedL1LossGradientOp<CUDAContext>);

}  // namespace caffe2
