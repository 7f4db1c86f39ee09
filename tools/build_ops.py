#!/usr/bin/env python3
"""Build the native operator library.

    python tools/build_ops.py
    python tools/build_ops.py --sanitize address
    python tools/build_ops.py --check-cuda

Compiles what changed under ops/ against the Caffe2 of this Python. Where the machine has no C++
compiler it says so in one line and ends well: the package then uses its Python operators.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext.native_build import BuildError, build_or_warn, check_cuda


def main() -> int:
    """Parse the command line, build, return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sanitize",
        choices=["address", "undefined"],
        default=os.environ.get("SANITIZE") or None,
        help="compile with this sanitizer (default: the environment variable SANITIZE)",
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
            build_or_warn(arguments.sanitize)
    except (BuildError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
