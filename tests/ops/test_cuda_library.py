"""A library built with CUDA contains the CUDA classes of its operators. No GPU is needed."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.proto import caffe2_pb2
from caffe2.python import core, workspace

from detectron_ext.ops import library

INPUTS = {
    "BalancedL1Loss": 4,
    "BalancedL1LossGradient": 5,
    "BalancedPyramidGather": 3,
    "BalancedPyramidGatherGradient": 4,
    "BalancedPyramidScatter": 4,
    "BalancedPyramidScatterGradient": 4,
    "EmbeddedGaussianAttention": 3,
    "EmbeddedGaussianAttentionGradient": 6,
    "SelectBalancedL1Loss": 4,
    "SelectBalancedL1LossGradient": 5,
    "NegativeGradientMass": 2,
    "QualityFocalLoss": 4,
    "QualityFocalLossGradient": 5,
    "WeightedSigmoidFocalLoss": 4,
    "WeightedSigmoidFocalLossGradient": 5,
}
OUTPUTS = {
    "BalancedPyramidGatherGradient": 3,
    "BalancedPyramidScatter": 3,
    "EmbeddedGaussianAttentionGradient": 3,
}


def cuda_failure(operator: str, inputs: int, outputs: int) -> str:
    """Return why the operator cannot be created for a GPU, or "" if it can be."""
    workspace.ResetWorkspace()
    net = core.Net("net")
    names = [net.AddExternalInput(f"input{i}") for i in range(inputs)]
    for name in names:
        workspace.FeedBlob(str(name), np.zeros(1, np.float32))
    device = core.DeviceOption(caffe2_pb2.CUDA, 0)
    net.Proto().op.extend(
        [core.CreateOperator(operator, names, list("abc"[:outputs]), device_option=device)]
    )
    try:
        workspace.CreateNet(net)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("operator", INPUTS)
def test_every_operator_has_a_cuda_class(operator):
    if not library._State.native_cuda:
        pytest.skip("the native operators are built without CUDA")
    failure = cuda_failure(operator, INPUTS[operator], OUTPUTS.get(operator, 1))
    # Without a GPU the operator's class is found, and its context cannot be made.
    assert failure == "" or failure.startswith("CUDA error: ")


def test_an_operator_without_a_cuda_class_is_recognised():
    failure = cuda_failure("NoSuchOperator", 1, 1)
    assert "Cannot create operator of type 'NoSuchOperator' on the device 'CUDA'" in failure
