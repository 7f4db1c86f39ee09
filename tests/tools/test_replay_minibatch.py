"""tools/replay_minibatch.py repeats a step that was not finite."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from squares import write_tiny_config
from tool_runner import failure, run_tool

from detectron_ext.array_pickle import read_pickle, write_pickle
from detectron_ext.errors import WeightsError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A training that stopped at its second step, at which weights were ruined."""
    folder = tmp_path_factory.mktemp("replay")
    cfg = write_tiny_config(folder)
    settings = ["TRAIN.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 1e30, "SOLVER.WARM_UP_ITERS", 0]
    outcome = run_tool("train_net", "--cfg", cfg, "--skip-test", *settings)
    return cfg, settings, failure(outcome), next(folder.rglob("not_finite.pkl"))


def test_a_replayed_step_names_the_first_blob_that_is_not_finite(stopped):
    cfg, settings, message, path = stopped
    assert message.startswith("the loss is ") and f"kept in {path}" in message
    before = path.read_bytes()
    outcome = run_tool("replay_minibatch", "--cfg", cfg, path, *settings)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].startswith("iteration 1: the loss is ")
    assert sum(line.startswith("image /") for line in lines) == 2
    (first,) = [line for line in lines if line.startswith("the first blob that is not finite is ")]
    assert ", made by " in first and "(operator " in first
    losses = dict(line.split(" = ") for line in lines if " = " in line and "iteration" not in line)
    assert len(losses) == 10 and any(not np.isfinite(float(value)) for value in losses.values())
    assert path.read_bytes() == before


def _changed(path, folder, change):
    content = read_pickle(str(path), "weights", WeightsError)
    change(content)
    write_pickle(str(folder / "changed.pkl"), content)
    return folder / "changed.pkl"


def test_a_replay_of_a_healthy_step_finds_nothing_and_of_a_spoilt_input_names_it(stopped, tmp_path):
    cfg, settings, _, path = stopped

    def heal(content):
        for name, blob in content["blobs"].items():
            content["blobs"][name] = np.zeros_like(blob)

    def spoil(content):
        content["step"]["minibatches"][0]["data"].flat[7] = np.nan

    outcome = run_tool("replay_minibatch", "--cfg", cfg, _changed(path, tmp_path, heal), *settings)
    assert "\nall blobs are finite\n" in outcome.out
    outcome = run_tool("replay_minibatch", "--cfg", cfg, _changed(path, tmp_path, spoil), *settings)
    assert "\nthe input data is not finite\n" in outcome.out


def test_what_cannot_be_replayed_ends_in_one_line(stopped, tmp_path):
    cfg, settings, _, path = stopped
    tool = lambda file, *more: run_tool("replay_minibatch", "--cfg", cfg, file, *settings, *more)  # noqa: E731
    assert "No such file" in failure(tool(tmp_path / "none.pkl"))
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((9, 9, 3), np.uint8))
    assert str(image) in failure(tool(image))
    assert "do not fit" in failure(tool(path, "FPN.DIM", 32))
    two = _changed(path, tmp_path, lambda c: c["step"]["minibatches"].append({}))
    assert "is of a training on 2 devices" in failure(tool(two))
    bad = _changed(path, tmp_path, lambda c: c["step"].update(images=[1]))
    assert "is damaged" in failure(tool(bad))
    bad = _changed(path, tmp_path, lambda c: c["step"]["minibatches"][0].pop("data"))
    assert "does not fit the configuration: Conv, which makes conv1, fails" in failure(tool(bad))
