#!/usr/bin/env python
"""Measure speed and memory."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Time training steps of a RetinaNet on made-up images: no data set is read.",
        "tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml --size 320 --batch 2",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    step = kinds.add_parser("step", help="a whole training step: forward, backward, update")
    step.add_argument("--size", type=int, default=320, help="height and width (default: 320)")
    step.add_argument("--batch", type=int, default=2, help="images a step (default: 2)")
    step.add_argument("--steps", type=int, default=10, help="timed steps (default: 10)")
    command_line.add_config_arguments(step)
    arguments = parser.parse_args()
    config = command_line.load_config(arguments.cfg_file, arguments.opts)

    from detectron_ext.commands.benchmark_step import benchmark_step

    result = benchmark_step(config, arguments.size, arguments.batch, arguments.steps)
    print(
        f"{result['seconds']:.3f} s a step (min {result['seconds_min']:.3f}, max "
        f"{result['seconds_max']:.3f}), {arguments.batch} images of {arguments.size} pixels padded "
        f"to {result['size']}; peak memory {result['peak_memory_gb']:.2f} GB"
    )


if __name__ == "__main__":
    command_line.run(main)
