"""Clipping of the gradients' common norm: values on the CPU, the graph for two GPUs, the log."""

from __future__ import annotations

import json

import numpy as np
import pytest
from caffe2.python import workspace
from caffe2.python.model_helper import ModelHelper
from two_gpus import build_for_two_gpus

from detectron_ext.modeling.gradient_clipping import add_gradient_clipping
from detectron_ext.modeling.layers import DetectionLayers


class _Model(DetectionLayers, ModelHelper):
    """A model of two parameters whose gradients are fed."""

    def __init__(self, limit):
        super().__init__(name="clipped")
        self.metrics = []
        self.param_to_grad = {
            param: self.net.AddExternalInput(f"{param}_grad")
            for param in (self.net.AddExternalInput(name) for name in ("w", "b"))
        }
        add_gradient_clipping(self, list(self.param_to_grad), limit)


@pytest.mark.parametrize("limit", [1e-3, 5.0, 1e5])
def test_the_norm_of_all_gradients_is_limited(limit):
    rng = np.random.default_rng(2)
    gradients = {
        "w_grad": rng.normal(0, 3, (4, 3, 2)).astype(np.float32),
        "b_grad": rng.normal(0, 3, 5).astype(np.float32),
    }
    model = _Model(limit)
    workspace.ResetWorkspace()
    for name, value in gradients.items():
        workspace.FeedBlob(name, value)
    workspace.RunNetOnce(model.param_init_net)
    workspace.RunNetOnce(model.net)
    flat = np.concatenate([value.ravel() for value in gradients.values()]).astype(np.float64)
    norm = np.sqrt((flat**2).sum())
    assert workspace.FetchBlob("gradient_norm").ravel()[0] == pytest.approx(norm, rel=1e-6)
    for name, value in gradients.items():
        expected = value * min(1.0, limit / norm)
        np.testing.assert_allclose(workspace.FetchBlob(name), expected, rtol=1e-5)
    assert model.metrics == ["gradient_norm"]


def test_gradients_without_a_value_above_zero_stay_zero():
    model = _Model(2.0)
    workspace.ResetWorkspace()
    for name in ("w_grad", "b_grad"):
        workspace.FeedBlob(name, np.zeros(3, np.float32))
    workspace.RunNetOnce(model.param_init_net)
    workspace.RunNetOnce(model.net)
    assert not workspace.FetchBlob("w_grad").any()


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_each_replica_clips_the_gradients_of_all(detector):
    """After the reduction and before the updates, so that each has the norm of the sum."""
    model = build_for_two_gpus(detector, True, "USE_NCCL", "True", "LIBRA.CLIP_GRADIENTS", "35")
    operators = list(model.net.Proto().op)
    places = {
        kind: [index for index, op in enumerate(operators) if op.type == kind]
        for kind in ("NCCLAllreduce", "SumSqrElements", "MomentumSGDUpdate")
    }
    assert max(places["NCCLAllreduce"]) < min(places["SumSqrElements"])
    for scope in ("gpu_0/", "gpu_1/"):
        own = model.trainable_params(scope)
        squares = [op for op in operators if op.type == "SumSqrElements"]
        squares = [op for op in squares if op.output[0].startswith(scope)]
        assert {op.input[0] for op in squares} == {str(model.param_to_grad[param]) for param in own}
        norms = [k for k, op in enumerate(operators) if f"{scope}gradient_norm" in op.output]
        updates = [
            k for k in places["MomentumSGDUpdate"] if operators[k].input[0].startswith(scope)
        ]
        assert len(norms) == 1 and norms[0] < min(updates)
    blobs = {blob for op in operators for blob in [*op.input, *op.output]}
    assert not [blob for blob in blobs if blob.count("gpu_") != 1]
    assert "gradient_norm" in model.metrics


def test_without_a_limit_the_graph_has_no_norm():
    model = build_for_two_gpus("retinanet", True)
    assert "SumSqrElements" not in {op.type for op in model.net.Proto().op}
    assert "gradient_norm" not in model.metrics


def test_the_log_counts_the_clipped_steps(tmp_path):
    from detectron_ext.engine.statistics import TrainingStatistics

    path = tmp_path / "stats.jsonl"
    stats = TrainingStatistics(["loss"], ["gradient_norm"], 4, 2, str(path), clip_at=35.0)
    for iteration, norm in enumerate((36.0, 35.0, 80.0, 40.0)):
        stats.update({"loss": 1.0, "gradient_norm": norm}, 0, {})
        stats.log(iteration, 0.1)
    stats.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["clipped_steps"] for line in lines] == [1, 1, 1]
    assert [line["gradient_norm"] for line in lines] == [36.0, 36.0, 38.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_norm_tells_gradients_that_are_not_finite(value):
    """The training loop stops where the norm is not finite."""
    model = _Model(2.0)
    workspace.ResetWorkspace()
    for name in ("w_grad", "b_grad"):
        workspace.FeedBlob(name, np.array([1, value, 0], np.float32))
    workspace.RunNetOnce(model.param_init_net)
    workspace.RunNetOnce(model.net)
    assert not np.isfinite(workspace.FetchBlob("gradient_norm")).any()
