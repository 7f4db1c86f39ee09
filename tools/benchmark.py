#!/usr/bin/env python
"""Measure the speed and memory of training steps, and the speed of operators."""

from __future__ import annotations

import sys

from detectron_ext import command_line

_WHAT = {
    "step": "a whole training step: forward, backward and update",
    "ops": "every operator, forward and backward, compared with eager PyTorch",
}


def main() -> None:
    parser = command_line.make_parser(
        'Measure speed and memory: "step" measures a training step, "ops" each operator. Add '
        "--help after either to see its options.",
        "tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml --size 320 --batch 2\n"
        "tools/benchmark.py ops --only pyramid attention --json operators.json",
    )
    parser.add_argument("what", choices=list(_WHAT), help="; ".join(map(": ".join, _WHAT.items())))
    what = parser.parse_args(sys.argv[1:2]).what
    (_step if what == "step" else _operators)(sys.argv[2:])


def _step(arguments: list[str]) -> None:
    parser = command_line.make_parser(
        "Measure the time and the peak memory of training steps on random images. No data set is "
        "read.",
        "tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml --size 320 --batch 2",
    )
    parser.prog += " step"
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        default=320,
        help="height and width in pixels (default: 320)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", default=2, help="images per step (default: 2)"
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", default=10, help="number of timed steps (default: 10)"
    )
    command_line.add_config_arguments(parser)
    options = parser.parse_args(arguments)
    if min(options.size, options.batch, options.steps) < 1:
        parser.error("--size, --batch and --steps must be at least 1")
    config = command_line.load_config(options.cfg_file, options.opts)

    from detectron_ext.benchmarks.training_step import benchmark_step

    result = benchmark_step(config, options.size, options.batch, options.steps)
    print(
        f"{result['seconds']:.3f} s per step (min {result['seconds_min']:.3f}, max "
        f"{result['seconds_max']:.3f}), {options.batch} images of {options.size} pixels padded "
        f"to {result['size']}; peak memory {result['peak_memory_gb']:.2f} GB"
    )


def _operators(arguments: list[str]) -> None:
    parser = command_line.make_parser(
        "Measure the time of every operator and of the same computation in eager PyTorch. Both run "
        "alternately in one process.",
        "tools/benchmark.py ops --only pyramid attention --json operators.json",
    )
    parser.prog += " ops"
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="only operators whose name contains one of these texts",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the results to this file")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        default=0,
        help="number of CPU threads; 0 uses all cores (default: 0)",
    )
    options = parser.parse_args(arguments)
    if options.threads < 0:
        parser.error("--threads must be at least 1, or 0 for all cores")
    command_line.start(options.threads)

    from detectron_ext.benchmarks.operators import benchmark_operators

    benchmark_operators(options.only, options.json)


if __name__ == "__main__":
    command_line.run(main)
