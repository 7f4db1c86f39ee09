"""Measures the time and memory of testing one image, with random weights."""

from __future__ import annotations

import os
import resource
import tempfile
import time

import numpy as np
from caffe2.python import workspace
from tqdm import trange

from detectron_ext.config import Config
from detectron_ext.data.minibatch import image_blobs, prepare_image
from detectron_ext.engine.detector import TestNet
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.modeling import build_model

_WARM_UP_RUNS = 3


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
    seconds = []
    for _ in trange(_WARM_UP_RUNS + steps, desc="runs", disable=None):
        started = time.perf_counter()
        net.run(blobs)
        seconds.append(time.perf_counter() - started)
    timed = seconds[_WARM_UP_RUNS:]
    return {
        "seconds": float(np.median(timed)),
        "seconds_min": min(timed),
        "seconds_max": max(timed),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "size": blobs["data"].shape[2],
    }


def _random_weights(config: Config, folder: str) -> str:
    """Write the initial values of a model to a file in a folder; return its path."""
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    blobs = {str(name): workspace.FetchBlob(str(name)) for name in model.params}
    path = os.path.join(folder, "random.pkl")
    write_weights(path, Weights(blobs, None, None, None))
    return path
