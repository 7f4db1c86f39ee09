#!/usr/bin/env python
"""Measure the speed and memory of training steps, and the speed of operators."""

from __future__ import annotations

import json
import sys

from detectron_ext import command_line
from detectron_ext.counted import counted
from detectron_ext.errors import UserError

_MOST_BUSY = 256
_WHAT = {
    "step": "a whole training step: forward, backward and update",
    "image": "the network on one image, without decoding",
    "profile": "the parts of a training step, by type of operator and by layer",
    "ops": "every operator, forward and backward, compared with eager PyTorch",
}


def main() -> None:
    parser = command_line.make_parser(
        'Measure speed and memory: "step" measures a training step, "profile" its parts, "image" '
        'the test of an image, "ops" each operator. Add --help after one of them to see its '
        "options.",
        "tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml --size 320 --batch 2\n"
        "tools/benchmark.py profile --cfg configs/retinanet_R-50-FPN.yaml\n"
        "tools/benchmark.py ops --only pyramid attention --json operators.json",
    )
    parser.add_argument("what", choices=list(_WHAT), help="; ".join(map(": ".join, _WHAT.items())))
    what = parser.parse_args(sys.argv[1:2]).what
    {"step": _step, "image": _image, "profile": _profile, "ops": _operators}[what](sys.argv[2:])


def _profile(arguments: list[str]) -> None:
    parser = command_line.make_parser(
        "Measure each operator of a training step on random images, and the memory over the step. "
        "No data set is read.",
        "tools/benchmark.py profile --cfg configs/retinanet_R-50-FPN.yaml --size 320 --batch 2",
    )
    parser.prog += " profile"
    _add_step_size(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    command_line.add_config_arguments(parser)
    options = parser.parse_args(arguments)
    if min(options.size, options.batch, options.steps) < 1:
        parser.error("--size, --batch and --steps must be at least 1")
    config = command_line.load_config(options.cfg_file, options.opts)

    from detectron_ext.benchmarks.step_profile import profile_step, tables

    operators, memory = profile_step(config, options.size, options.batch, options.steps)
    if options.json:
        print(json.dumps([operator._asdict() for operator in operators]))
    else:
        print(f"{tables(operators)}\n\n{memory.tables()}")


def _add_step_size(parser) -> None:
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


def _step_options(arguments: list[str]):
    parser = command_line.make_parser(
        "Measure the time and the peak memory of training steps on random images. No data set is "
        "read. With --beside or --vs-mmdet, steps in PyTorch or mmdetection run alternately with "
        "them. With --busy, steps alone and steps beside busy processes alternate.",
        "tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml --size 320 --batch 2\n"
        "tools/benchmark.py step --cfg configs/finetune/retinanet_EfficientNetLite0_320.yaml \\\n"
        "      --batch 4 --beside python3 MODEL.NUM_CLASSES 7\n"
        "tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml --busy 2 --rounds 2",
    )
    parser.prog += " step"
    _add_step_size(parser)
    parser.add_argument(
        "--beside",
        metavar="PYTHON",
        help="a Python with any PyTorch; only for a RetinaNet on EfficientNet-Lite0, and only in a "
        "checkout",
    )
    parser.add_argument(
        "--vs-mmdet",
        metavar="PYTHON",
        help="a Python with mmdetection 3; for R-50-FPN and 80 classes, in a checkout",
    )
    parser.add_argument(
        "--busy",
        type=int,
        metavar="N",
        help="start N processes that only compute, for every second half of the measurement, and "
        "print both medians and their ratio",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        default=5,
        help="with --beside, --vs-mmdet or --busy: how often each side runs (default: 5)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    command_line.add_config_arguments(parser)
    options = parser.parse_args(arguments)
    if min(options.size, options.batch, options.steps, options.rounds) < 1:
        parser.error("--size, --batch, --steps and --rounds must be at least 1")
    if options.busy is not None and not 1 <= options.busy <= _MOST_BUSY:
        parser.error(f"--busy must be from 1 to {_MOST_BUSY}")
    if len([flag for flag in (options.beside, options.vs_mmdet, options.busy) if flag]) > 1:
        parser.error("give one of --beside, --vs-mmdet and --busy")
    return options


def _step(arguments: list[str]) -> None:
    options = _step_options(arguments)
    config = command_line.load_config(options.cfg_file, options.opts)
    if options.beside or options.vs_mmdet:
        _beside(config, options)
        return
    if options.busy:
        _beside_busy(config, options)
        return

    from detectron_ext.benchmarks.training_step import benchmark_step

    result = benchmark_step(config, options.size, options.batch, options.steps)
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{result['seconds']:.3f} s per step (min {result['seconds_min']:.3f}, max "
        f"{result['seconds_max']:.3f}), {options.batch} images of {options.size} pixels padded "
        f"to {result['size']}; peak memory {result['peak_memory_gb']:.2f} GB"
    )


def _beside_busy(config, options) -> None:
    from detectron_ext.benchmarks.training_step import benchmark_step_beside_work

    result = benchmark_step_beside_work(
        config, options.size, options.batch, options.steps, options.rounds, options.busy
    )
    if options.json:
        print(json.dumps(result))
        return
    beside = f"beside {counted(options.busy, 'busy process', 'busy processes')}"
    for name, side in (("alone", result["alone"]), (beside, result["beside"])):
        print(
            f"{name}: {side['seconds']:.3f} s per step (min {side['seconds_min']:.3f}, max "
            f"{side['seconds_max']:.3f})"
        )
    print(f"{beside} a step takes {result['ratio']:.2f} times as long as alone")


def _beside(config, options) -> None:
    from detectron_ext.benchmarks.step_beside_pytorch import (
        compare_with_mmdet,
        compare_with_pytorch,
        table,
    )

    flag, python, compare = (
        ("--beside", options.beside, compare_with_pytorch)
        if options.beside
        else ("--vs-mmdet", options.vs_mmdet, compare_with_mmdet)
    )
    if options.size % 32:
        raise UserError(f"{flag} needs a --size that is a multiple of 32")
    numbers = {"--size": options.size, "--batch": options.batch, "--steps": options.steps}
    flags = [text for name, value in numbers.items() for text in (name, str(value))]
    own = [__file__, "step", "--json", "--cfg", options.cfg_file, *flags, *options.opts]
    results = compare(
        config, own, python, options.size, options.batch, options.steps, options.rounds
    )
    print(json.dumps(results) if options.json else table(results))


def _image(arguments: list[str]) -> None:
    parser = command_line.make_parser(
        "Measure the time and the peak memory of the network on one random image, from the pixels "
        "to the outputs of the heads. Weights are random, no data set is read. With --vs-mmdet, "
        "mmdetection's network runs alternately.",
        "tools/benchmark.py image --cfg configs/retinanet_R-50-FPN.yaml --size 512",
    )
    parser.prog += " image"
    _add_numbers(
        parser,
        size=(512, "PIXELS", "height and width in pixels"),
        steps=(10, "N", "number of timed runs"),
        rounds=(5, "N", "with --vs-mmdet: how often each side runs"),
    )
    parser.add_argument(
        "--vs-mmdet",
        metavar="PYTHON",
        help="a Python with mmdetection 3; for RetinaNet R-50-FPN and 80 classes, in a checkout",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    command_line.add_config_arguments(parser)
    options = parser.parse_args(arguments)
    if min(options.size, options.steps, options.rounds) < 1:
        parser.error("--size, --steps and --rounds must be at least 1")
    scale = ["TEST.SCALE", str(options.size), "TEST.MAX_SIZE", str(options.size)]
    config = command_line.load_config(options.cfg_file, [*options.opts, *scale])
    if options.vs_mmdet:
        _image_beside(config, options)
        return

    from detectron_ext.benchmarks.one_image import benchmark_image

    result = benchmark_image(config, options.size, options.steps)
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{result['seconds']:.3f} s per image (min {result['seconds_min']:.3f}, max "
        f"{result['seconds_max']:.3f}), {options.size} pixels padded to {result['size']}; peak "
        f"memory {result['peak_memory_gb']:.2f} GB"
    )


def _image_beside(config, options) -> None:
    from detectron_ext.benchmarks.step_beside_pytorch import compare_with_mmdet, table
    from detectron_ext.config import is_retinanet

    if options.size % 32 or not is_retinanet(config):
        raise UserError("--vs-mmdet needs a RetinaNet and a --size that is a multiple of 32")
    flags = ["--size", str(options.size), "--steps", str(options.steps)]
    own = [__file__, "image", "--json", "--cfg", options.cfg_file, *flags, *options.opts]
    results = compare_with_mmdet(
        config, own, options.vs_mmdet, options.size, 1, options.steps, options.rounds, True
    )
    print(json.dumps(results) if options.json else table(results, "image"))


def _add_numbers(parser, **numbers: tuple[int, str, str]) -> None:
    for name, (default, unit, text) in numbers.items():
        parser.add_argument(
            f"--{name}", type=int, metavar=unit, default=default,
            help=f"{text} (default: {default})",
        )  # fmt: skip


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
