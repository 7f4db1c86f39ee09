#!/usr/bin/env python3
"""Build the native operator library.

    python tools/build_ops.py
    python tools/build_ops.py --targets x86-64-v2,x86-64-v3
    python tools/build_ops.py --sanitize address
    python tools/build_ops.py --caffe2 /path/of/another/python
    python tools/build_ops.py --check-cuda

Compiles what changed under ops/ against the Caffe2 of this Python, or of a given one. Where the
machine has no C++ compiler, the tool prints one line of warning and exits with status 0: the
package then uses its Python operators.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext import environment
from detectron_ext.native_build import BuildError, Unavailable, build_or_warn, check_cuda
from detectron_ext.native_build.targets import BUILD_VARIABLE, wanted_targets


def main() -> int:
    """Parse the command line, build, return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sanitize",
        choices=["address", "undefined", "address,undefined"],
        default=environment.SANITIZE.value or None,
        help="compile with these sanitizers (default: the environment variable "
        f"{environment.SANITIZE.name})",
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
        f"x86-64-v3, x86-64-v4); default: the environment variable {BUILD_VARIABLE}, else native",
    )
    parser.add_argument(
        "--check-cuda",
        action="store_true",
        help="compile only the CUDA sources, for two architectures, and build no library; without "
        "nvcc print one line",
    )
    arguments = parser.parse_args()
    try:
        if arguments.check_cuda:
            print(check_cuda())
        else:
            build_or_warn(arguments.sanitize, arguments.caffe2, arguments.targets)
    except (BuildError, Unavailable, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
