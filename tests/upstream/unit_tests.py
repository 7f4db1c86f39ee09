"""Runs upstream's own unit tests, with the adapter or without it; prints the outcome of each.

python unit_tests.py CHECKOUT [install]
"""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path


class _Recorder(unittest.TestResult):
    """Stores the outcome of every test: "passed" or the error."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict = {}

    def addSuccess(self, test):
        self.outcomes[test.id()] = "passed"

    def addError(self, test, err):
        self.outcomes[test.id()] = f"{err[0].__name__}: {err[1]}"

    addFailure = addError


def main(checkout: str, *options: str) -> None:
    sys.path.insert(0, checkout)
    if options:
        from detectron_ext import upstream

        upstream.install()
    import detectron.utils.c2 as c2_utils
    from detectron.core.config import cfg

    c2_utils.import_detectron_ops()
    # The loader's test sets this when it runs alone.
    cfg.TRAIN.ASPECT_GROUPING = False
    names = [path.stem for path in Path(checkout, "detectron/tests").glob("test_*.py")]
    # This test needs a library of examples that upstream's CMake builds.
    names.remove("test_zero_even_op")
    # The tests of the configuration do not restore it.
    names.sort(key=lambda name: (name == "test_cfg", name))
    suite = unittest.defaultTestLoader.loadTestsFromNames(
        [f"detectron.tests.{name}" for name in names]
    )
    recorder = _Recorder()
    suite.run(recorder)
    print(json.dumps(recorder.outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
