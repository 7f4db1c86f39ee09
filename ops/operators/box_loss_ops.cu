// The operators of the box losses on CUDA. The CUDA classes of Smooth L1 without weights are
// Detectron's.
#include "operators/box_losses_on_cuda.h"

namespace caffe2 {

using detectron_ext::BalancedL1;
using detectron_ext::DenseLossGradientOnCuda;
using detectron_ext::DenseLossOnCuda;
using detectron_ext::SelectLossGradientOnCuda;
using detectron_ext::SelectLossOnCuda;
using detectron_ext::SmoothL1;

REGISTER_CUDA_OPERATOR(BalancedL1Loss, DenseLossOnCuda<BalancedL1>);
REGISTER_CUDA_OPERATOR(BalancedL1LossGradient, DenseLossGradientOnCuda<BalancedL1>);
REGISTER_CUDA_OPERATOR(SelectBalancedL1Loss, SelectLossOnCuda<BalancedL1>);
REGISTER_CUDA_OPERATOR(SelectBalancedL1LossGradient, SelectLossGradientOnCuda<BalancedL1>);
REGISTER_CUDA_OPERATOR(WeightedSelectBalancedL1Loss, SelectLossOnCuda<BalancedL1, true>);
REGISTER_CUDA_OPERATOR(WeightedSelectBalancedL1LossGradient,
                       SelectLossGradientOnCuda<BalancedL1, true>);
REGISTER_CUDA_OPERATOR(WeightedSelectSmoothL1Loss, SelectLossOnCuda<SmoothL1, true>);
REGISTER_CUDA_OPERATOR(WeightedSelectSmoothL1LossGradient,
                       SelectLossGradientOnCuda<SmoothL1, true>);

}  // namespace caffe2
