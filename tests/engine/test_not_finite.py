"""A training whose numbers are no longer finite stops, and writes no ruined weights."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import workspace
from squares import write_tiny_config

from detectron_ext.config import load
from detectron_ext.engine import train as training
from detectron_ext.errors import UserError


@pytest.fixture
def failure(tmp_path, monkeypatch):
    """Return a function that trains with a blob spoilt by each step.

    It returns the message of the error and the names of the weights that were written.
    """

    def train(blob, value, *overrides):
        step = training._step

        def spoilt(*arguments, **keywords):
            rate = step(*arguments, **keywords)
            content = np.array(workspace.FetchBlob(blob))
            content.flat[0] = value
            workspace.FeedBlob(blob, content)
            return rate

        monkeypatch.setattr(training, "_step", spoilt)
        with pytest.raises(UserError) as caught:
            training.train(load(str(write_tiny_config(tmp_path)), overrides))
        assert "\n" not in str(caught.value)
        return str(caught.value), [path.name for path in (tmp_path / "output").rglob("*.pkl")]

    return train


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_gradients_that_are_not_finite_stop_a_clipped_training(failure, value):
    """Also at the last step, after which no loss would tell it."""
    message, written = failure(
        "gradient_norm", value, "LIBRA.CLIP_GRADIENTS", 35.0, "SOLVER.MAX_ITER", 1
    )
    start = f"the norm of the gradients is {value} at iteration 0: lower SOLVER.BASE_LR ("
    assert message.startswith(start) and written == []


@pytest.mark.parametrize(
    "overrides, name",
    [(("SOLVER.MAX_ITER", 1), "model_final"), (("TRAIN.SNAPSHOT_ITERS", 1), "model_iter0")],
)
def test_parameters_that_are_not_finite_are_not_written(failure, overrides, name):
    """Neither at the end nor in a checkpoint; the loss of this step is finite."""
    message, written = failure("conv1_w", np.nan, *overrides)
    assert message.startswith("1 parameter is not finite after the last step, first conv1_w: ")
    assert message.endswith(f"; {name}.pkl was not written") and written == []
