#!/usr/bin/env python
"""Measure speed and memory."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Time training steps of a detector on made-up images: no data set is read.",
        "tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml --size 320 --batch 2",
    )
    parser.add_argument(
        "what", choices=["step"], help="step: a whole training step, forward, backward and update"
    )
    parser.add_argument("--size", type=int, default=320, help="height and width (default: 320)")
    parser.add_argument("--batch", type=int, default=2, help="images a step (default: 2)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default: 10)")
    command_line.add_config_arguments(parser)
    arguments = parser.parse_args()
    if min(arguments.size, arguments.batch, arguments.steps) < 1:
        parser.error("--size, --batch and --steps must be at least 1")
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
