#!/usr/bin/env python3
"""Time a training step of RetinaNet on EfficientNet-Lite0 in PyTorch; needs no Caffe2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# The package is not installed where there is no Caffe2.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Measure the time and the peak memory of training steps of RetinaNet on EfficientNet-Lite0 "
        "in PyTorch, on random images, as JSON. benchmark.py step --beside PYTHON runs this tool "
        "and its own step alternately.",
        "tools/benchmark_pytorch.py --size 320 --batch 4",
    )
    numbers = {
        "size": (320, "height and width in pixels, a multiple of 32"),
        "batch": (4, "images per step"),
        "steps": (10, "number of timed steps"),
        "dim": (64, "channels of the pyramid and of the head, a multiple of 32"),
        "num-convs": (2, "convolutions in each tower of the head"),
        "num-classes": (6, "classes without the background"),
        "num-anchors": (9, "anchors at each position"),
        "frozen-stages": (1, "stages that are not trained, 0 to 4"),
        "threads": (0, "CPU threads; 0 keeps the number of PyTorch"),
    }
    for name, (default, text) in numbers.items():
        parser.add_argument(
            f"--{name}", type=int, metavar="N", default=default, help=f"{text} (default: {default})"
        )
    parser.add_argument(
        "--channels-last", action="store_true", help="use the memory format channels_last"
    )
    options = parser.parse_args()
    if options.size % 32 or options.dim % 32 or min(options.size, options.dim) < 32:
        parser.error("--size and --dim must be multiples of 32")
    if min(options.batch, options.steps, options.num_classes, options.num_anchors) < 1:
        parser.error("--batch, --steps, --num-classes and --num-anchors must be at least 1")
    if not 0 <= options.frozen_stages <= 4 or min(options.num_convs, options.threads) < 0:
        parser.error("--frozen-stages must be 0 to 4, --num-convs and --threads at least 0")

    from detectron_ext.pytorch_benchmark.network import Shape
    from detectron_ext.pytorch_benchmark.step import benchmark_pytorch_step

    shape = Shape(
        options.dim,
        options.num_convs,
        options.num_classes,
        options.num_anchors,
        options.frozen_stages,
    )
    result = benchmark_pytorch_step(
        shape, options.size, options.batch, options.steps, options.threads, options.channels_last
    )
    print(json.dumps(result))


if __name__ == "__main__":
    command_line.run(main)
