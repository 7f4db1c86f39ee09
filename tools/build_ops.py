#!/usr/bin/env python3
"""Build the native operator library.

    python tools/build_ops.py
    python tools/build_ops.py --sanitize address
    python tools/build_ops.py --caffe2 /path/of/another/python
    python tools/build_ops.py --check-cuda

Compiles what changed under ops/ against the Caffe2 of this Python, or a given one. Where the
machine has no C++ compiler it says so in one line and ends well: the package then uses its Python
operators.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext.native_build import BuildError, Unavailable, build_or_warn, check_cuda


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
        "--check-cuda",
        action="store_true",
        help="compile the CUDA sources instead, for two architectures; say so where nvcc is absent",
    )
    arguments = parser.parse_args()
    try:
        if arguments.check_cuda:
            print(check_cuda())
        else:
            build_or_warn(arguments.sanitize, arguments.caffe2)
    except (BuildError, Unavailable, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
