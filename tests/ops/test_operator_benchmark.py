"""The operators' benchmark: its PyTorch formulas equal the operators, and its figures are right."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from case_inputs import make_cases
from native_runner import needs_native
from operator_cases import expected_outputs
from random_seed import SEED
from torch_peer import needs_recent_torch

from detectron_ext.benchmarks import operators
from detectron_ext.benchmarks import pytorch_formulas as eager
from detectron_ext.errors import UserError

FORMULAS = {
    "BalancedL1Loss": (eager.dense_loss, eager.balanced_l1_penalty),
    "SmoothL1Loss": (eager.dense_loss, eager.smooth_l1_penalty),
    "SelectBalancedL1Loss": (eager.select_loss, eager.balanced_l1_penalty),
    "SelectSmoothL1Loss": (eager.select_loss, eager.smooth_l1_penalty),
}


def formula_of(case, tensors):
    """Return the case's outputs by the eager formula, or None if there is none for the case."""
    arguments = dict(case.arguments)
    scale = arguments.pop("scale", 1.0)
    if case.operator in FORMULAS:
        loss, penalty = FORMULAS[case.operator]
        if arguments.get("formula") == "mmdet" or not len(case.inputs[1]):
            return None
        arguments.pop("formula", None)
        return [scale * loss(partial(penalty, **arguments), *tensors)]
    if case.operator in ("SigmoidFocalLoss", "WeightedSigmoidFocalLoss", "SoftmaxFocalLoss"):
        focal = eager.softmax_focal_loss if "Softmax" in case.operator else eager.sigmoid_focal_loss
        return [scale * focal(*tensors, **arguments)]
    if case.operator == "BalancedPyramidGather":
        return [eager.balanced_pyramid_gather(tensors, **arguments)]
    if case.operator == "BalancedPyramidScatter":
        return eager.balanced_pyramid_scatter(tensors[0], tensors[1:], **arguments)
    if case.operator == "EmbeddedGaussianAttention":
        scale = tensors[0].shape[1] ** -0.5 if case.arguments["use_scale"] else None
        return [eager.embedded_gaussian_attention(*tensors, scale=scale)]
    if case.operator == "NonLocalBlock" and not case.arguments["use_scale"]:
        x, *weights = tensors
        parts = dict(zip(("theta", "phi", "g", "out"), zip(weights[::2], weights[1::2])))
        return [eager.non_local_block(x, parts)]
    if case.operator == "GroupSpatialSoftmax":
        return [eager.group_spatial_softmax(*tensors, **arguments)]
    return None


@needs_recent_torch
@pytest.mark.parametrize("case", make_cases(SEED), ids=lambda case: case.label)
def test_the_eager_formula_equals_the_operator(case):
    tensors = [torch.from_numpy(np.array(array)) for array in case.inputs]
    tensors = [t.double() if t.is_floating_point() else t for t in tensors]
    actual = formula_of(case, tensors)
    if actual is None:
        return
    expected = expected_outputs(case)
    for ours, theirs in zip(actual, expected):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-12)


@needs_native
def test_every_selected_case_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(operators, "_MIN_SECONDS", 0.0)
    monkeypatch.setattr(operators, "_MIN_RUNS", 1)
    file = tmp_path / "figures.json"
    results = operators.benchmark_operators(["maxpool", "SpatialNarrow"], str(file))
    assert [result.name for result in results] == ["MaxPool", "SpatialNarrowAs"]
    pooled = results[0]
    assert pooled.difference < 1e-6 and pooled.both > 0 and pooled.eager_both > 0
    assert pooled.extra_bytes < pooled.eager_extra_bytes  # PyTorch keeps where the maxima were
    image, quarter = 4 * 2 * 256 * 64 * 64, 4 * 2 * 256 * 32 * 32
    # Forward reads x and writes y; backward reads x, y and dy and writes dx.
    assert pooled.bytes_moved == 3 * image + 3 * quarter
    written = json.loads(file.read_text())
    assert written["operators"][0]["ratio"] == pytest.approx(pooled.eager_both / pooled.both)
    assert written["torch"] == torch.__version__
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4 and "SpatialNarrowAs" in table[3]


@needs_native
def test_an_unknown_operator_is_an_error_and_keeps_earlier_figures(tmp_path):
    file = tmp_path / "figures.json"
    file.write_text("earlier figures")
    with pytest.raises(UserError, match="no operator has nothing"):
        operators.benchmark_operators(["nothing"], str(file))
    assert file.read_text() == "earlier figures"


@needs_native
def test_a_file_that_cannot_be_written_is_an_error_before_measuring(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write figures to folder .*file.*--json"):
        operators.benchmark_operators(["relu"], str(tmp_path / "file" / "figures.json"))


def test_a_nan_among_the_results_gives_a_nan_difference():
    ones, nan = np.ones(3, np.float32), np.float32([1, np.nan, 1])
    assert operators._difference([ones, ones], [ones, ones]) == 0
    assert np.isnan(operators._difference([ones, nan, ones], [ones, ones, ones]))
    assert np.isnan(operators._difference([ones, ones], [nan, ones]))
    assert operators._difference([], []) == 0
