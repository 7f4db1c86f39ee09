"""Small valid files of each kind that `fuzz_parsers.py` reads, for its corpora to start with.

PYTHONPATH=. .venv/bin/python tests/fuzz_seeds.py FOLDER    # writes FOLDER/<target>/valid-...
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from pathlib import Path
from unittest import mock

import hostile_cases
import numpy as np
import yaml
from hostile_cases import Cases
from squares import REPOSITORY, write_tiny_config

from detectron_ext import config as configuration

# The kinds of hostile_cases by the names of fuzz_parsers.
_KINDS = {
    "yaml": "yaml", "sweep": "sweep", "annotations": "coco", "detections": "detections",
    "image": "image", "weights": "weights", "proposals": "proposals", "pth": "pth", "log": "log",
    "statistics": "log",
}  # fmt: skip
_VARIANTS = 60  # draws of a kind: several formats of images, protocols of pickles

_MMDET = (
    "model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=50, style='pytorch'),\n"
    "    neck=[dict(type='FPN', add_extra_convs='on_input', relu_before_extra_convs=False),\n"
    "          dict(type='BFP', refine_level=1)],\n"
    "    bbox_head=dict(anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4,\n"
    "        ratios=[0.5, 1.0, 2.0])))\n"
    "img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.3, 57.1, 57.4], to_rgb=True)\n"
)
_YAML_TAGS = (
    "A: !!python/tuple [1, 2]\n"
    "B: &b !!python/object:detectron.utils.collections.AttrDict\n"
    "  dictitems: {C: 1}\n"
    "D: {<<: *b}\n"
    "E: !!python/object/apply:numpy.core.multiarray.scalar\n"
    "- !!python/object/apply:numpy.dtype\n"
    "  args: [f8, 0, 1]\n"
    "  state: !!python/tuple [3, <, null, null, null, -1, -1, 0]\n"
    '- !!binary "AAAAAAAA8D8="\n'
)
_STATISTICS = "".join(
    json.dumps({"iter": n, "loss": 0.5, "skipped_steps": n % 2}) + "\n" for n in range(0, 8, 2)
)


def valid_files() -> dict[str, list[bytes]]:
    """Return the contents of valid files by the names of targets."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_tiny_config(folder)
        cases = Cases(folder, path)
        found = {target: _contents(cases, kind) for target, kind in _KINDS.items()}
        text = path.read_text().replace(name, "/data").replace(str(REPOSITORY), "/code")
        # Small annotations: a fuzzer is slow on large inputs.
        found["annotations"] = [_small_annotations(folder / "squares" / "annotations.json")]
        found["yaml"] = [text.encode(), _YAML_TAGS.encode()]
        found["settings"] = [_plain_settings(text).encode(), b"LIBRA: {BFP: {ON: True}}\n"]
        base = REPOSITORY / "configs" / "retinanet_R-36-tiny.yaml"
        sweep = found["sweep"][0].decode().replace(str(path), str(base))
        found["sweep"] = [sweep.encode(), b"variants: {a: {config: x.yaml}}\nseeds: [1]\n"]
    stored = configuration.dump_legacy_yaml(configuration.load())
    found["stored_settings"] = [
        stored.encode() if isinstance(stored, str) else stored,
        _YAML_TAGS.encode(),
    ]
    found["values"] = [
        b"SOLVER.MAX_ITER 3\nTRAIN.SCALES (64,)\nLIBRA.BFP.ON True",
        b"17 0.5\n93 [1, 2]\n140 {'a': 1}",
        b"MODEL.TYPE retinanet\nSOLVER.LRS [0.1, 0.01]\nOUTPUT_DIR /tmp/a\nTEST.DATASETS ('a',)",
    ]
    found["safetensors"] = [_safetensors()]
    found["mmdet_settings"] = [_MMDET.encode()]
    found["statistics"].append(_STATISTICS.encode())
    return found


def _contents(cases: Cases, kind: str) -> list[bytes]:
    unchanged = {
        "mutated_tree": lambda tree, draws: tree,
        "mutated_bytes": lambda content, draws: content,
    }
    with mock.patch.multiple(hostile_cases, **unchanged):
        made = (cases.make(kind, number)["main"] for number in range(_VARIANTS))
        return sorted(set(made), key=len)


def _small_annotations(path: Path) -> bytes:
    content = json.loads(path.read_text())
    content["images"] = content["images"][:2]
    content["annotations"] = content["annotations"][:3]
    content["annotations"][0]["segmentation"] = [[1, 2, 30, 2, 30, 40]]
    content["annotations"][1].update(
        iscrowd=1, segmentation={"counts": [3, 4, 9], "size": [128, 128]}
    )
    return json.dumps(content).encode()


def _plain_settings(text: str) -> str:
    """Return a configuration without its base file, which a fuzzed one must not look for."""
    tree = yaml.safe_load(text)
    del tree["_BASE_"]
    return yaml.safe_dump(tree)


def _safetensors() -> bytes:
    numbers = np.arange(6, dtype="<f4").tobytes()
    header = {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers + bytes(4)


def main() -> None:
    for target, contents in valid_files().items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / f"valid-{number}").write_bytes(content)


if __name__ == "__main__":
    main()
