#!/usr/bin/env python3
"""Build the native operator library.

    python tools/build_ops.py
    python tools/build_ops.py --targets x86-64-v2,x86-64-v3
    python tools/build_ops.py --sanitize address
    python tools/build_ops.py --caffe2 /path/of/another/python
    python tools/build_ops.py --check-cuda

Compiles what changed below ops/, for the Caffe2 of this Python or of another one. If this machine
lacks a C++ compiler or something else, the tool prints one line of warning and ends with status 0.
The package then uses its Python operators.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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
        default=os.environ.get("SANITIZE") or None,
        help="compile with these sanitizers (default: the environment variable SANITIZE)",
    )
    parser.add_argument(
        "--caffe2",
        default=os.environ.get("CAFFE2") or None,
        metavar="PYTHON_OR_FOLDER",
        help="build for the Caffe2 of another Python, or for one built from source and installed "
        "in a folder (default: the environment variable CAFFE2)",
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
        help="compile only the CUDA sources, for two architectures, and build no library; if "
        "there is no nvcc, print one line",
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
