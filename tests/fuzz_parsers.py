"""Coverage-guided fuzzing of the parsers, with atheris (libFuzzer for Python).

    .venv/bin/pip install atheris==2.3.0
    .venv/bin/python tests/fuzz_parsers.py weights FOLDER -max_total_time=1200

FOLDER keeps the inputs that reached new code; start it with valid files. The other options are
libFuzzer's. An input that ends in anything but one of our errors is written as ``crash-...``: mend
the fault, and put the input into tests/fuzz_corpus/<target>/, which test_fuzz_corpus.py reads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from typing import Callable


def readers() -> dict[str, Callable[[str], object]]:
    """Return the readers of files by the names of targets."""
    from detectron_ext.config.yaml_text import parse_yaml
    from detectron_ext.conversion.torch_checkpoint import read_checkpoint
    from detectron_ext.data.annotation_file import check_annotations, read_json
    from detectron_ext.data.proposals import read_scored_proposals
    from detectron_ext.engine.weights_file import read_weights
    from detectron_ext.evaluation.detections_file import read_detections

    def read_yaml(path: str) -> object:
        with open(path, "rb") as file:
            return parse_yaml(file.read(), "fuzzed")

    return {
        "yaml": read_yaml,
        "weights": read_weights,
        "proposals": read_scored_proposals,
        "pth": read_checkpoint,
        "annotations": lambda path: check_annotations(read_json(path), path),
        "detections": read_detections,
    }


def main() -> None:
    import atheris

    target = sys.argv[1]
    with atheris.instrument_imports(include=["detectron_ext", "yaml", "pickle", "json"]):
        from detectron_ext.errors import UserError

        read = readers()[target]
    logging.disable(logging.CRITICAL)
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    handle, path = tempfile.mkstemp(prefix="fuzz", dir=folder)

    def one_input(content: bytes) -> None:
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)
        with contextlib.suppress(UserError, MemoryError):
            read(path)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
