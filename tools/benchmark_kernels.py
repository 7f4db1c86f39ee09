#!/usr/bin/env python3
"""Check and time the CUDA kernels: needs nvcc, a GPU and any PyTorch with CUDA, not Caffe2."""

from __future__ import annotations

import sys
from pathlib import Path

# The package is not installed where there is no Caffe2.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext import command_line
from detectron_ext.kernel_benchmark.run import KERNELS, SIZES, benchmark_kernels


def main() -> None:
    parser = command_line.make_parser(
        "Compare the results of every CUDA kernel with float64 references, and its speed with "
        "PyTorch, eager and compiled. This tool needs a GPU and a PyTorch with CUDA, but not "
        "Caffe2.",
        "tools/benchmark_kernels.py --size large --kernels attention pyramid_gather",
    )
    parser.add_argument(
        "--size", choices=SIZES, default="small",
        help="size of the inputs: small is that of a training step, large is a gigabyte or more "
        "(default: small)",
    )  # fmt: skip
    parser.add_argument(
        "--kernels",
        nargs="+",
        choices=KERNELS,
        metavar="NAME",
        default=[],
        help=f"only these kernels (default: all): {', '.join(KERNELS)}",
    )
    parser.add_argument(
        "--repeat", type=int, metavar="N", default=20, help="number of timed runs (default: 20)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the results to this file"
    )
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error("--repeat must be at least 1")
    sys.exit(benchmark_kernels(arguments.size, arguments.kernels, arguments.repeat, arguments.json))


if __name__ == "__main__":
    command_line.run(main)
