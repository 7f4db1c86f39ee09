#!/usr/bin/env python3
"""Time a training step or a test of one of mmdetection's detectors; needs no Caffe2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# The package is not installed where there is no Caffe2.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Measure the time and the peak memory of training steps of mmdetection's own detector with "
        "ResNet-50, on random images, as JSON. benchmark.py step --vs-mmdet PYTHON runs this tool "
        "and its own step alternately.",
        "tools/benchmark_mmdet.py libra_retinanet --size 320 --batch 2",
    )
    parser.add_argument(
        "detector", choices=("retinanet", "libra_retinanet", "faster_rcnn", "libra_faster_rcnn")
    )
    numbers = {
        "size": (320, "height and width in pixels, a multiple of 32"),
        "batch": (2, "images per step"),
        "steps": (10, "number of timed steps"),
        "threads": (0, "CPU threads; 0 keeps the number of PyTorch"),
    }
    for name, (default, text) in numbers.items():
        parser.add_argument(
            f"--{name}", type=int, metavar="N", default=default, help=f"{text} (default: {default})"
        )
    parser.add_argument(
        "--inference",
        action="store_true",
        help="time the network of a RetinaNet on one image instead, without decoding",
    )
    options = parser.parse_args()
    if options.inference and (options.batch > 1 or "retinanet" not in options.detector):
        parser.error("--inference needs --batch 1 and a retinanet")
    if options.size % 32 or options.size < 32:
        parser.error("--size must be a multiple of 32")
    if min(options.batch, options.steps) < 1 or options.threads < 0:
        parser.error("--batch and --steps must be at least 1, --threads at least 0")

    from detectron_ext.pytorch_benchmark.mmdet_step import (
        benchmark_mmdet_image,
        benchmark_mmdet_step,
    )

    if options.inference:
        result = benchmark_mmdet_image(
            options.detector, options.size, options.steps, options.threads
        )
    else:
        result = benchmark_mmdet_step(
            options.detector, options.size, options.batch, options.steps, options.threads
        )
    print(json.dumps(result))


if __name__ == "__main__":
    command_line.run(main)
