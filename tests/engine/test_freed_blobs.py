"""A training frees blobs during a step: the same weights, and what is read after it is there."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import workspace
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext.config import load
from detectron_ext.engine import train as training
from detectron_ext.engine.step_nets import StepNets
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.modeling import build_model

_LIBRA = ("LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True")
_CASES = {
    "retinanet": (write_tiny_config, _LIBRA),
    "clipped": (write_tiny_config, ("LIBRA.CLIP_GRADIENTS", "1.0", "MEMONGER", "False")),
    "checked": (write_tiny_config, ("LIBRA.TRAIN.SKIP_NONFINITE", "2")),
    "weighted": (
        write_tiny_config,
        ("LIBRA.RETINANET_WEIGHTS.POSITIVE", "iou_balanced",
         "LIBRA.RETINANET_NEGATIVES.WEIGHTS", "gradient_balanced"),
    ),
    "faster_rcnn": (write_tiny_rcnn_config, (*_LIBRA, "LIBRA.SAMPLER.NEGATIVE", "iou_balanced")),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_weights_are_the_same_bit_for_bit(case, tmp_path):
    write, overrides = _CASES[case]
    path, weights = str(write(tmp_path)), []
    for free in ("True", "False"):
        output = str(tmp_path / free)
        settings = [
            "TRAIN.IMS_PER_BATCH", 1, "SOLVER.MAX_ITER", 3, "LIBRA.THREADS", 1,
            "LIBRA.TRAIN.FREE_BLOBS", free, "OUTPUT_DIR", output, *overrides,
        ]  # fmt: skip
        config = load(path, settings)
        weights.append(read_weights(training.train(config)).blobs)
    freed, kept = weights
    assert freed.keys() == kept.keys()
    assert [n for n in freed if freed[n].tobytes() != kept[n].tobytes()] == []


def _bytes_after_a_step(path, *overrides):
    """Train a step; return the bytes of the blobs after it that are no parameters, by name."""
    config = load(path, ["SOLVER.MAX_ITER", 1, "TRAIN.IMS_PER_BATCH", 1, *overrides])
    training.train(config)
    model = build_model(config, train=True)
    lasting = {*model.net.Proto().external_input, *model.param_init_net.Proto().external_output}
    found = {}
    for blob in set(workspace.Blobs()) - lasting:
        value = workspace.FetchBlob(blob)
        if isinstance(value, np.ndarray):
            found[blob] = value.nbytes
    return found


@pytest.mark.parametrize("write", [write_tiny_config, write_tiny_rcnn_config])
def test_a_step_leaves_only_what_is_read_after_it(write, tmp_path):
    path = str(write(tmp_path))
    kept = _bytes_after_a_step(path, "LIBRA.TRAIN.FREE_BLOBS", "False")
    freed = _bytes_after_a_step(path, "OUTPUT_DIR", str(tmp_path / "freed"))
    assert sum(kept.values()) > 5e6
    assert sum(freed.values()) < 0.01 * sum(kept.values())
    assert not any(name.endswith("_grad") for name in freed)


def test_the_key_and_gpus_leave_the_net_as_it_is(tmp_path):
    path = str(write_tiny_config(tmp_path))
    model = build_model(load(path, []), train=True)
    nets = StepNets(model)
    added = [op.type for net in (nets.gradients, nets.update) for op in net.op]
    assert added.count("Free") > 100
    assert "Free" not in [op.type for op in model.net.Proto().op]
    for build in (
        lambda: StepNets(model, free_blobs=False),
        lambda: StepNets(build_model(load(path, ["LIBRA.TRAIN.FREE_BLOBS", "False"]), train=True)),
    ):
        nets = build()
        assert "Free" not in [op.type for net in (nets.gradients, nets.update) for op in net.op]
    model.num_gpus = 2
    assert "Free" not in [op.type for op in StepNets(model).gradients.op]


def test_the_operators_and_their_order_stay(tmp_path):
    model = build_model(load(str(write_tiny_config(tmp_path)), []), train=True)
    nets = StepNets(model)
    assert len(nets.update.op) >= model.num_update_operators
    both = [op for net in (nets.gradients, nets.update) for op in net.op if op.type != "Free"]
    assert both == list(model.net.Proto().op)
