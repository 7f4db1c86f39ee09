"""Coverage-guided fuzzing of the parsers, with atheris (libFuzzer for Python).

    .venv/bin/pip install atheris==2.3.0
    .venv/bin/python tests/fuzz_parsers.py weights FOLDER -max_total_time=1200

FOLDER keeps the inputs that reached new code; start it with valid files (`fuzz_seeds.py` makes
them, and `fuzz_campaign.py` runs all targets in turn). The other options are libFuzzer's. An input
that ends in anything but one of our errors is written as ``crash-...``: mend the fault, and put the
input into tests/fuzz_corpus/<target>/, which test_fuzz_corpus.py reads.
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
    from detectron_ext.config import flat_legacy_settings
    from detectron_ext.config.keys import KEYS
    from detectron_ext.config.tree import Config
    from detectron_ext.config.yaml_text import parse_yaml
    from detectron_ext.conversion.mmdet_settings import read_settings
    from detectron_ext.conversion.torch_checkpoint import read_checkpoint
    from detectron_ext.data.annotation_file import check_annotations, read_json
    from detectron_ext.data.exif import fits_either_way
    from detectron_ext.data.proposals import read_scored_proposals
    from detectron_ext.data.transforms import read_file
    from detectron_ext.engine.statistics import TrainingStatistics
    from detectron_ext.engine.weights_file import read_weights
    from detectron_ext.evaluation.detections_file import read_detections
    from detectron_ext.evaluation.training_log import read_training_log, training_costs
    from detectron_ext.experiments.spec import read_spec

    def bytes_of(path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def resume_statistics(path: str) -> None:
        TrainingStatistics(["loss"], [], 9, 1, path, start_iter=5).close()

    def build_settings(path: str) -> None:
        tree = parse_yaml(bytes_of(path), "fuzzed")
        if isinstance(tree, dict):  # as the loader of a file requires
            Config.build([(tree, "fuzzed")], [])

    def decode_image(path: str) -> None:
        fits_either_way(bytes_of(path), (8, 8))
        read_file(path, (24, 32))

    def give_values(path: str) -> None:
        """Lines of KEY VALUE; a number stands for the key of that place."""
        names = sorted(KEYS)
        pairs = []
        for line in bytes_of(path).decode("utf-8", "surrogateescape").split("\n"):
            key, _, value = line.partition(" ")
            known = names[int(key) % len(names)] if key.isdecimal() and len(key) < 6 else ""
            pairs += [known or key, value]
        Config.build([], pairs)

    return {
        "yaml": lambda path: parse_yaml(bytes_of(path), "fuzzed"),
        "weights": read_weights,
        "proposals": read_scored_proposals,
        "pth": read_checkpoint,
        "annotations": lambda path: check_annotations(read_json(path), path),
        "detections": read_detections,
        "safetensors": read_checkpoint,
        "settings": build_settings,
        "stored_settings": lambda path: flat_legacy_settings(bytes_of(path)),
        "values": give_values,
        "sweep": read_spec,
        "log": lambda path: training_costs(read_training_log(path)),
        "statistics": resume_statistics,
        "mmdet_settings": lambda path: read_settings({"cfg": bytes_of(path).decode("latin-1")}),
        "image": decode_image,
    }


def main() -> None:
    import atheris

    target = sys.argv[1]
    with atheris.instrument_imports(include=["detectron_ext", "yaml", "pickle", "json"]):
        from detectron_ext.errors import UserError

        read = readers()[target]
    logging.disable(logging.CRITICAL)
    path = os.path.join(tempfile.mkdtemp(prefix="fuzz"), "input")

    def one_input(content: bytes) -> None:
        with open(path, "wb") as file:  # a reader may have replaced it
            file.write(content)
        with contextlib.suppress(UserError, MemoryError):
            read(path)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
