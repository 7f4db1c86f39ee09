"""Measures the time and memory of testing one image, with random weights."""

from __future__ import annotations

import os
import tempfile

import numpy as np
from caffe2.python import workspace

from detectron_ext.benchmarks.timed_runs import timed_runs
from detectron_ext.config import Config
from detectron_ext.data.minibatch import image_blobs, prepare_image
from detectron_ext.engine.detector import TestNet
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.modeling import build_model


def benchmark_image(config: Config, size: int, steps: int) -> dict[str, float]:
    """Time the test net on one random image: everything from the pixels to the heads' outputs.

    Decoding and suppression are left out: their time depends on what the model finds, and random
    weights find nothing.

    Args:
        config: a configuration of a detector that needs no proposals; TEST.SCALE and TEST.MAX_SIZE
            are ``size``.
        size: height and width of the image, in pixels.
        steps: timed runs, after a few that are not timed.

    Returns:
        As `training_step.benchmark_step`.
    """
    with tempfile.TemporaryDirectory() as folder:
        net = TestNet(config, _random_weights(config, folder))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    blobs = image_blobs([prepare_image(image, config)], config, train=False)
    return {**timed_runs(lambda: net.run(blobs), steps, "runs"), "size": blobs["data"].shape[2]}


def _random_weights(config: Config, folder: str) -> str:
    """Write the initial values of a model to a file in a folder; return its path."""
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    blobs = {str(name): workspace.FetchBlob(str(name)) for name in model.params}
    path = os.path.join(folder, "random.pkl")
    write_weights(path, Weights(blobs, None, None, None))
    return path
