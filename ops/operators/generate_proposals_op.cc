// GenerateProposals on the CPU, with one thread for each image. Caffe2's own uses one thread, and
// its suppression of overlaps takes several times as long.
//
// It makes only upright boxes. For rotated boxes Caffe2's own operator runs.
#include <vector>

#include <caffe2/core/operator.h>

#include "kernels/proposals.h"
#include "operators/arguments.h"
#include "operators/checks.h"
#include "operators/registration.h"
#include "operators/stock_operator.h"
#include "operators/threads.h"

namespace detectron_ext {
namespace {

using caffe2::CPUContext;
using caffe2::Operator;
using caffe2::OperatorDef;
using caffe2::Tensor;
using caffe2::Workspace;

// Inputs scores (N, A, H, W), deltas (N, 4A, H, W), image sizes and scales (N, 3), and the anchors
// of a cell (A, 4). Outputs boxes (R, 5), whose first number is the image, and scores (R), the best
// of each image first.
class GenerateProposalsOp final : public Operator<CPUContext> {
 public:
  GenerateProposalsOp(const OperatorDef& definition, Workspace* workspace)
      : Operator<CPUContext>(definition, workspace),
        stock_(definition, workspace, "GenerateProposalsCPP"),
        settings_{1.0f / PositiveArgument(*this, "spatial_scale", 1.0f / 16),
                  GetSingleArgument<int>("pre_nms_topN", 6000),
                  GetSingleArgument<int>("post_nms_topN", 300),
                  GetSingleArgument<float>("nms_thresh", 0.7f),
                  GetSingleArgument<float>("min_size", 16.0f),
                  GetSingleArgument<bool>("legacy_plus_one", true) ? 1.0f : 0.0f} {}

  bool RunOnDevice() override {
    const Tensor& anchors = Input(3);
    EnforceDimensions(type(), "anchors", anchors, 2);
    if (anchors.dim(1) != 4) {
      return stock_.Run();
    }
    CheckInputs();
    const int64_t images = Input(0).dim(0);
    std::vector<Proposals> proposals(images);
    ThreadPoolFor(images, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        proposals[n] = MakeProposals(ImageInputs(n), settings_);
      }
    });
    WriteOutputs(proposals);
    return true;
  }

 private:
  void CheckInputs() {
    const Tensor& scores = Input(0);
    EnforceDimensions(type(), "scores", scores, 4);
    const int64_t images = scores.dim(0);
    const int64_t anchors = Input(3).dim(0);
    EnforceShape(type(), "scores", scores, {images, anchors, scores.dim(2), scores.dim(3)},
                 "anchors", Input(3));
    EnforceShape(type(), "deltas", Input(1), {images, 4 * anchors, scores.dim(2), scores.dim(3)},
                 "scores", scores);
    EnforceShape(type(), "image sizes", Input(2), {images, 3}, "scores", scores);
  }

  // Returns the part of the inputs that belongs to image n.
  ProposalInputs ImageInputs(int64_t n) {
    const Tensor& scores = Input(0);
    const int64_t size = scores.size_from_dim(1);
    const float* const info = Input(2).data<float>() + 3 * n;
    return {scores.data<float>() + n * size,
            Input(1).data<float>() + n * 4 * size,
            Input(3).data<float>(),
            scores.dim(1),
            scores.dim(2),
            scores.dim(3),
            info[0],
            info[1],
            info[2]};
  }

  void WriteOutputs(const std::vector<Proposals>& proposals) {
    int64_t count = 0;
    for (const Proposals& boxes : proposals) {
      count += boxes.size();
    }
    auto* rois_tensor = Output(0, {count, 5}, at::dtype<float>());
    auto* scores_tensor = Output(1, {count}, at::dtype<float>());
    float* roi = rois_tensor->template mutable_data<float>();
    float* score = scores_tensor->template mutable_data<float>();
    for (size_t n = 0; n < proposals.size(); ++n) {
      const Proposals& boxes = proposals[n];
      for (int64_t i = 0; i < boxes.size(); ++i, roi += 5) {
        roi[0] = static_cast<float>(n);
        roi[1] = boxes.x1[i];
        roi[2] = boxes.y1[i];
        roi[3] = boxes.x2[i];
        roi[4] = boxes.y2[i];
        *score++ = boxes.scores[i];
      }
    }
  }

  StockOperator stock_;
  const ProposalSettings settings_;
};

}  // namespace
}  // namespace detectron_ext

namespace caffe2 {

DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(GenerateProposals, detectron_ext::GenerateProposalsOp);

}  // namespace caffe2
