#!/usr/bin/env python3
"""Build the native operator library."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext import environment
from detectron_ext.command_line import make_parser, run
from detectron_ext.native_build import BuildError, Unavailable, build_or_warn, check_cuda
from detectron_ext.native_build.targets import BUILD_VARIABLE, require_known, wanted_targets


def main() -> int:
    """Parse the command line, build, return the exit status."""
    parser = make_parser(
        "Compile what has changed under ops/, for the Caffe2 of this Python or of another one. On "
        "a machine without a C++ compiler the tool prints a warning and exits with status 0: the "
        "package then uses its Python operators.",
        "tools/build_ops.py\n"
        "tools/build_ops.py --targets x86-64-v2,x86-64-v3\n"
        "tools/build_ops.py --sanitize address\n"
        "tools/build_ops.py --caffe2 /path/of/another/python\n"
        "tools/build_ops.py --check-cuda --fetch-headers",
    )
    parser.add_argument(
        "--sanitize",
        choices=["address", "undefined", "address,undefined", "thread", "fuzz"],
        metavar="NAMES",
        default=environment.SANITIZE.value or None,
        help="compile with these sanitizers: address, undefined, address,undefined or thread; fuzz "
        "stands for address,undefined with the coverage that a fuzzer needs (default: the "
        f"environment variable {environment.SANITIZE.name})",
    )
    parser.add_argument(
        "--caffe2",
        default=environment.CAFFE2.value or None,
        metavar="PYTHON_OR_FOLDER",
        help="build for the Caffe2 of another Python, or for one built from source and installed "
        f"in a folder (default: the environment variable {environment.CAFFE2.name})",
    )
    parser.add_argument(
        "--targets",
        type=wanted_targets,
        metavar="NAMES",
        help="the processors to build for: native (this machine) or levels of x86-64 (x86-64-v2, "
        f"x86-64-v3, x86-64-v4) (default: the environment variable {BUILD_VARIABLE}, or native)",
    )
    parser.add_argument(
        "--check-cuda",
        action="store_true",
        help="only compile the CUDA sources, for two architectures, and if the headers of CUDA's "
        "libraries are found, link and load them; the package's library stays as it is; without "
        "nvcc, say so in one line",
    )
    parser.add_argument(
        "--fetch-headers",
        action="store_true",
        help="with --check-cuda: download the headers of cuBLAS, cuRAND and cuDNN from the package "
        "index into build/ (600 MB, of which 3 MB are kept)",
    )
    arguments = parser.parse_args()
    try:
        for name in arguments.targets or ():
            require_known(name)
        if arguments.fetch_headers and not arguments.check_cuda:
            parser.error("--fetch-headers needs --check-cuda")
        if arguments.check_cuda:
            print(check_cuda(arguments.fetch_headers))
        else:
            build_or_warn(arguments.sanitize, arguments.caffe2, arguments.targets)
    except (BuildError, Unavailable, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    run(main)
