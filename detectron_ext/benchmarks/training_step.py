"""Measures the time and memory of a training step, on random images."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
from caffe2.python import workspace

from detectron_ext.benchmarks.busy_processes import busy_processes
from detectron_ext.benchmarks.timed_runs import seconds_of, summary_of, timed_runs
from detectron_ext.config import Config
from detectron_ext.config.settings import Settings
from detectron_ext.engine.parameters import feed
from detectron_ext.engine.shared_processors import SharedProcessors, shared_processors
from detectron_ext.engine.step_nets import StepNets
from detectron_ext.modeling import build_model
from detectron_ext.sampling.minibatch_targets import minibatch_targets

# After this time a training has found its number of threads, if that may change.
_SETTLING_SECONDS = 20.0
_BOXES_PER_IMAGE = 7
_PROPOSALS_PER_IMAGE = 2000


def benchmark_step(config: Config, size: int, batch: int, steps: int) -> dict[str, float]:
    """Time whole training steps: forward, backward and update of every parameter.

    Args:
        config: the model's configuration. Its data sets and proposal files are not read.
        size: height and width of the images, in pixels. The images are padded to a multiple of
            FPN.COARSEST_STRIDE.
        batch: images per step.
        steps: timed steps, after a few that are not timed.

    Returns:
        The dictionary of `timed_runs`, and in it size: height and width after padding, in pixels.
    """
    step, padded, _ = _ready_step(config, size, batch)
    return {**timed_runs(step, steps, "steps"), "size": padded}


def benchmark_step_beside_work(
    config: Config, size: int, batch: int, steps: int, rounds: int, busy: int
) -> dict[str, Any]:
    """Time training steps alone and beside busy processes, alternately.

    Args:
        config, size, batch: as of `benchmark_step`.
        steps: timed steps of each half of a round. If the number of threads may change
            (`engine.shared_processors`), untimed ones for 20 seconds come before.
        rounds: how often both halves are measured.
        busy: number of busy processes, at least 1.

    Returns:
        A dictionary: alone and beside (dictionaries as of `summary_of`), ratio (of the medians) and
        size (height and width after padding, in pixels).
    """
    step, padded, adapts = _ready_step(config, size, batch)
    seconds_of(step, 0, "warming up")
    seconds: dict[int, list[float]] = {0: [], busy: []}
    for _ in range(rounds):
        for number, measured in seconds.items():
            with busy_processes(number):
                _run_for(step, _SETTLING_SECONDS if adapts else 0.0)
                measured += seconds_of(step, steps, f"steps beside {number} busy", warm_up=1)
    alone, beside = (summary_of(measured) for measured in seconds.values())
    ratio = beside["seconds"] / alone["seconds"]
    return {"alone": alone, "beside": beside, "ratio": ratio, "size": padded}


def _run_for(step: Callable[[], None], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        step()


def _ready_step(config: Config, size: int, batch: int) -> tuple[Callable[[], None], int, bool]:
    """Return a function that runs a step, the padded size, and whether its threads may change."""
    nets, padded = ready_nets(config, size, batch)
    processors = shared_processors(nets.model)

    def step() -> None:
        nets.compute_gradients()
        nets.apply_gradients()
        processors.after_step()

    return step, padded, isinstance(processors, SharedProcessors)


def ready_nets(config: Config, size: int, batch: int) -> tuple[StepNets, int]:
    """Create the nets of a training step, and feed their parameters and a made-up minibatch.

    Args:
        config, size, batch: as of `benchmark_step`.

    Returns:
        The nets, and the images' height and width after padding.
    """
    stride = int(config.FPN.COARSEST_STRIDE)
    padded = -(-size // stride) * stride
    workspace.ResetWorkspace()
    model = build_model(config, train=True)
    workspace.RunNetOnce(model.param_init_net)
    for index in range(max(1, model.num_gpus)):
        for name, value in _made_up_blobs(config, size, padded, batch, seed=index).items():
            feed(model, index, name, value)
        feed(model, index, "lr", np.array([1e-5], dtype=np.float32))
    nets = StepNets(model)
    nets.create()
    return nets, padded


def _made_up_blobs(
    config: Settings, size: int, padded: int, batch: int, seed: int
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    data = np.zeros((batch, 3, padded, padded), dtype=np.float32)
    data[:, :, :size, :size] = rng.normal(0, 50, (batch, 3, size, size))
    blobs = {"data": data, "im_info": np.tile(np.array([size, size, 1], np.float32), (batch, 1))}
    samples = [_made_up_sample(rng, size, config.MODEL.NUM_CLASSES) for _ in range(batch)]
    blobs.update(minibatch_targets(config)(samples, padded, padded, rng))
    return blobs


def _made_up_sample(rng: np.random.Generator, size: int, num_classes: int) -> Any:
    return SimpleNamespace(
        image=np.empty((size, size, 0), dtype=np.float32),
        boxes=_made_up_boxes(rng, size, _BOXES_PER_IMAGE),
        classes=rng.integers(1, num_classes, _BOXES_PER_IMAGE).astype(np.int32),
        is_crowd=np.zeros(_BOXES_PER_IMAGE, dtype=bool),
        proposals=_made_up_boxes(rng, size, _PROPOSALS_PER_IMAGE),
    )


def _made_up_boxes(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    corners = rng.uniform(0, size * 0.6, (number, 2))
    extents = rng.uniform(size * 0.1, size * 0.4, (number, 2))
    return np.hstack((corners, corners + extents)).astype(np.float32)
