"""Times training steps of this project and of PyTorch or mmdetection alternately."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Sequence

from tqdm import trange

from detectron_ext.config import Config, is_retinanet
from detectron_ext.errors import UserError
from detectron_ext.shipped_files import TOOLS

_BODY = "FPN.add_fpn_EfficientNetLite0_conv5_body"
_MMDET_CLASSES = 80
_FORMATS = {"nchw": [], "channels_last": ["--channels-last"]}


def compare_with_pytorch(
    config: Config,
    own_command: Sequence[str],
    python: str,
    size: int,
    batch: int,
    steps: int,
    rounds: int,
) -> dict[str, list[dict]]:
    """Run both sides in processes of their own, one after the other, several times.

    PyTorch runs in both of its memory formats. The machine should have nothing else to do.

    Args:
        config: a RetinaNet on EfficientNet-Lite0; PyTorch builds a network of the same shape.
        own_command: arguments of this Python that time this project's step and print JSON.
        python: another Python, with any PyTorch.
        size: height and width of the images in pixels, a multiple of 32.
        batch: images per step.
        steps: timed steps of a run.
        rounds: how often each side runs.

    Returns:
        {"this project", "PyTorch nchw", "PyTorch channels_last": results of each round}, with the
        keys of `benchmark_step`.

    Raises:
        UserError: the configuration is another model, or a side fails.
    """
    if config.MODEL.TYPE != "retinanet" or config.MODEL.CONV_BODY != _BODY:
        raise UserError(f"--beside compares a RetinaNet whose MODEL.CONV_BODY is {_BODY}")
    commands = {"this project": [sys.executable, *own_command]}
    peer = [python, str(TOOLS / "benchmark_pytorch.py"), *_flags(config, size, batch, steps)]
    for order, flags in _FORMATS.items():
        commands[f"PyTorch {order}"] = [*peer, *flags]
    return _take_turns(commands, rounds)


def compare_with_mmdet(
    config: Config,
    own_command: Sequence[str],
    python: str,
    size: int,
    batch: int,
    steps: int,
    rounds: int,
    inference: bool = False,
) -> dict[str, list[dict]]:
    """Run this project and mmdetection in turns; arguments as of `compare_with_pytorch`.

    Args:
        config: RetinaNet or Faster R-CNN on R-50-FPN, plain or with Libra's parts. mmdetection runs
            its own configuration of that detector, with 80 classes.
        python: a Python with mmdetection 3.
        inference: whether images are tested instead of training steps.

    Returns:
        {"this project", "mmdetection": results of each round}.

    Raises:
        UserError: the configuration is another model, or a side fails.
    """
    values = {"size": size, "batch": batch, "steps": steps, "threads": config.LIBRA.THREADS}
    numbers = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    peer = [python, str(TOOLS / "benchmark_mmdet.py"), _mmdet_detector(config), *numbers]
    peer += ["--inference"] if inference else []
    own = [sys.executable, *own_command]
    return _take_turns({"this project": own, "mmdetection": peer}, rounds)


def _mmdet_detector(config: Config) -> str:
    is_r50 = "ResNet50" in config.MODEL.CONV_BODY and "fpn" in config.MODEL.CONV_BODY.lower()
    if not is_r50 or config.MODEL.NUM_CLASSES != _MMDET_CLASSES + 1:
        raise UserError(
            "--vs-mmdet compares RetinaNet or Faster R-CNN with an R-50-FPN body and "
            f"MODEL.NUM_CLASSES {_MMDET_CLASSES + 1}"
        )
    kind = "retinanet" if is_retinanet(config) else "faster_rcnn"
    return f"libra_{kind}" if config.LIBRA.BFP.ON else kind


def _take_turns(commands: dict[str, list[str]], rounds: int) -> dict[str, list[dict]]:
    results: dict[str, list[dict]] = {side: [] for side in commands}
    for _ in trange(rounds, desc="rounds", disable=None):
        for side, command in commands.items():
            results[side].append(_run(side, command))
    return results


def ratios(results: dict[str, list[dict]]) -> list[float]:
    """Return, for each round, the time of the fastest other side over this project's time."""
    sides = [[run["seconds"] for run in runs] for runs in results.values()]
    return [min(peers) / own for own, *peers in zip(*sides)]


def table(results: dict[str, list[dict]], what: str = "step") -> str:
    """Return one line for each side and one with the ratio, for a terminal; ``what`` was timed."""
    lines = []
    for side, runs in results.items():
        seconds = [run["seconds"] for run in runs]
        memory = max(run["peak_memory_gb"] for run in runs)
        version = f" {runs[0]['version']}" if "version" in runs[0] else ""
        lines.append(
            f"{side}{version}: {statistics.median(seconds):.3f} s per {what} (rounds "
            f"{min(seconds):.3f} to {max(seconds):.3f}), peak memory {memory:.2f} GB"
        )
    times = ratios(results)
    lines.append(
        f"{_peer(results)} takes {statistics.median(times):.2f} times as long (rounds "
        f"{min(times):.2f} to {max(times):.2f})"
    )
    return "\n".join(lines)


def _peer(results: dict[str, list[dict]]) -> str:
    _, *others = results
    return others[0] if len(others) == 1 else "PyTorch's faster format"


def _flags(config: Config, size: int, batch: int, steps: int) -> list[str]:
    anchors = len(config.RETINANET.ASPECT_RATIOS) * config.RETINANET.SCALES_PER_OCTAVE
    values = {
        "size": size,
        "batch": batch,
        "steps": steps,
        "dim": config.FPN.DIM,
        "num-convs": config.RETINANET.NUM_CONVS,
        "num-classes": config.MODEL.NUM_CLASSES - 1,
        "num-anchors": anchors,
        "frozen-stages": max(0, config.TRAIN.FREEZE_AT - 1),
        "threads": config.LIBRA.THREADS,
    }
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def _run(side: str, command: list[str]) -> dict:
    try:
        outcome = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise UserError(f"{side}: {command[0]} cannot be run: {error.strerror}") from error
    if outcome.returncode:
        last = (outcome.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"{side}: {command[0]} ended with status {outcome.returncode}: {last}")
    return json.loads(outcome.stdout.strip().splitlines()[-1])
