"""A training whose numbers are no longer finite stops or skips, and writes no ruined weights."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
from caffe2.python import workspace
from squares import write_tiny_config

from detectron_ext.config import load
from detectron_ext.engine import train as training
from detectron_ext.engine import training_loop
from detectron_ext.engine.not_finite import read_kept_step
from detectron_ext.engine.parameters import weights_of
from detectron_ext.engine.step_nets import StepNets
from detectron_ext.engine.training_data import TrainingMinibatches
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import UserError, WeightsError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that trains while chosen steps spoil a blob.

    It takes the name of the blob, its value, the iterations and overrides. ``when`` is the part of
    the step after which the blob is spoilt. The function returns the path of the final weights.
    """
    path = str(write_tiny_config(tmp_path))

    def train(blob, value, iterations, *overrides, when="compute_gradients"):
        numbers = iter(range(1000))
        part = getattr(StepNets, when)

        def spoilt(nets):
            part(nets)
            if next(numbers) in iterations:
                content = np.array(workspace.FetchBlob(blob))
                content.flat[0] = value
                workspace.FeedBlob(blob, content)

        with monkeypatch.context() as patched:
            patched.setattr(StepNets, when, spoilt)
            return training.train(load(path, ["TRAIN.IMS_PER_BATCH", 1, *overrides]))

    return train


def _message(run, *arguments, **keywords):
    with pytest.raises(UserError) as caught:
        run(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _written(tmp_path):
    names = (path.name for path in (tmp_path / "output").rglob("*.pkl"))
    return sorted(name for name in names if name != "not_finite.pkl")


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_gradients_that_are_not_finite_stop_a_clipped_training(run, tmp_path, value):
    """Also at the last step, after which no loss would tell it."""
    settings = "LIBRA.CLIP_GRADIENTS", 35.0, "SOLVER.MAX_ITER", 1
    message = _message(run, "gradient_norm", value, [0], *settings)
    start = f"the norm of the gradients is {value} at iteration 0, in the minibatch of "
    assert message.startswith(start) and "lower SOLVER.BASE_LR (" in message
    assert _written(tmp_path) == []


@pytest.mark.parametrize(
    "overrides, name",
    [(("SOLVER.MAX_ITER", 1), "model_final"), (("TRAIN.SNAPSHOT_ITERS", 1), "model_iter0")],
)
def test_parameters_that_are_not_finite_are_not_written(run, tmp_path, overrides, name):
    """Neither at the end nor in a checkpoint; the loss of this step is finite."""
    message = _message(run, "conv1_w", np.nan, [0], *overrides, when="apply_gradients")
    assert message.startswith("1 parameter is not finite after the last step, first conv1_w: ")
    assert message.endswith(f"; {name}.pkl was not written") and _written(tmp_path) == []


def test_a_loss_that_is_not_finite_names_iteration_loss_and_images(run, tmp_path):
    message = _message(run, "retnet_loss_bbox_fpn4", np.inf, [4], "TRAIN.IMS_PER_BATCH", 2)
    folder = tmp_path / "output" / "train" / "squares" / "retinanet"
    step = read_kept_step(str(folder / "not_finite.pkl"))
    assert len(step.images) == 2 and all(map(os.path.exists, step.images))
    assert message.startswith(
        f"the loss is inf (retnet_loss_bbox_fpn4) at iteration 4, in the minibatch of "
        f"{', '.join(step.images)} (kept in {folder}/not_finite.pkl for tools/replay_minibatch.py)"
        ": lower SOLVER.BASE_LR ("
    )
    assert message.endswith(
        f"; if {folder}/model_iter2.pkl is ruined already, remove it to start anew"
    )
    assert step.iteration == 4 and step.fault == "the loss is inf (retnet_loss_bbox_fpn4)"
    again = TrainingMinibatches(load(str(tmp_path / "tiny.yaml"), ["TRAIN.IMS_PER_BATCH", 2]))(4)
    (kept,) = step.minibatches
    assert kept.keys() == again.keys()
    for name, value in again.items():
        np.testing.assert_array_equal(kept[name], value, err_msg=name)


BALANCED = ("LIBRA.RETINANET_NEGATIVES.WEIGHTS", "gradient_balanced")


@pytest.mark.parametrize(
    ("blob", "overrides"), [("fl_fpn3", ()), ("conv1_w_grad", ()), ("fl_fpn4", BALANCED)]
)
def test_a_skipped_step_changes_neither_parameters_nor_momenta(
    run, monkeypatch, caplog, blob, overrides
):
    """Bit for bit, also where only a gradient is not finite, and where the rate has jumped.

    With BALANCED a step also remembers gradients of negatives.
    """
    states = []
    step = training_loop.step

    def observed(model, *arguments, **keywords):
        before = weights_of(model, None).blobs
        try:
            step(model, *arguments, **keywords)
        finally:
            after = weights_of(model, None).blobs
            states.append([name for name in before if (before[name] != after[name]).any()])

    monkeypatch.setattr(training_loop, "step", observed)
    final = run(
        blob, np.nan, [1, 2], "LIBRA.TRAIN.SKIP_NONFINITE", 2, "TRAIN.FREEZE_AT", 0,
        "SOLVER.SCALE_MOMENTUM_THRESHOLD", 0.0, "SOLVER.MAX_ITER", 4, *overrides,
    )  # fmt: skip
    remembered = ["retnet_negative_masses" in changed for changed in states]
    assert remembered == [bool(overrides), False, False, bool(overrides)]
    assert [bool(changed) for changed in states] == [True, False, False, True]
    assert np.isfinite(
        np.concatenate([b.ravel() for b in read_weights(final).blobs.values()])
    ).all()
    lines = [record.message for record in caplog.records]
    assert sum("skipped a step (" in line for line in lines) == 2
    assert "2 steps were skipped because a loss or a gradient was not finite" in lines
    with open(os.path.join(os.path.dirname(final), "stats.jsonl")) as file:
        assert [json.loads(line)["skipped_steps"] for line in file] == [0, 2, 0]


def test_one_step_more_than_allowed_ends_the_run_also_after_resuming(run):
    settings = "LIBRA.TRAIN.SKIP_NONFINITE", 2
    message = _message(run, "fl_fpn3", np.nan, [0, 1, 4], *settings)
    assert "at iteration 4, " in message and "; 2 steps before it were skipped: lower" in message
    # Resumed from the checkpoint after iteration 2; the two steps before it count.
    message = _message(run, "fl_fpn3", np.nan, [0], *settings)
    assert "at iteration 3, " in message and "; 2 steps before it were skipped: lower" in message
    run("fl_fpn3", np.nan, [0], "LIBRA.TRAIN.SKIP_NONFINITE", 3)


def test_a_run_may_skip_all_of_its_steps(run, caplog):
    with caplog.at_level(logging.WARNING):
        final = run(
            "fl_fpn3", np.nan, range(9), "LIBRA.TRAIN.SKIP_NONFINITE", 9, "SOLVER.MAX_ITER", 3
        )
    assert "3 steps were skipped" in caplog.text and os.path.exists(final)


def test_a_step_that_cannot_be_kept_does_not_hide_the_fault(run, tmp_path, monkeypatch):
    def full(*arguments):
        raise UserError("cannot write X: No space left on device")

    monkeypatch.setattr("detectron_ext.engine.not_finite.write_pickle", full)
    message = _message(run, "fl_fpn3", np.nan, [0])
    assert " (not kept: cannot write X: No space left on device): lower" in message


def test_other_files_are_no_kept_steps(tmp_path):
    path = str(tmp_path / "weights.pkl")
    write_weights(path, Weights({"a": np.zeros(1, np.float32)}, "", None))
    with pytest.raises(WeightsError, match="holds no step: give a not_finite.pkl"):
        read_kept_step(path)
