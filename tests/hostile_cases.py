"""Hostile inputs: mutations of valid files and command lines of each kind, with a fixed seed.

A case is (kind, number). Its mutations depend only on these two, so that a case that failed can be
repeated alone.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import random
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import yaml

_NUMBERS = [
    0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, -1e308,
    float("nan"), float("inf"), float("-inf"), True, False,
]  # fmt: skip
_TEXTS = [
    "", " ", ".", "..", "/", "../../x", "/etc/passwd", "~", "a" * 5000, "\x00", "\n", "\ud800", "é",
    "nan", "1e999", "0x" + "f" * 100, "__import__('os')", "!!python/object:os.system", "{}", "[]",
    "*a", "&a", "<<", "-", "--", "-1", "%s%s%n", "${HOME}", "null", "true", "1" * 5000,
]  # fmt: skip
_BYTES = [
    b"", b"\0", b"\xff", b"\xff\xfe", b"\x80\x02", b"\x80\x04\x95", b".", b"c", b"cos\nsystem\n",
    b"R", b"PK\x03\x04", b"{", b"[" * 200, b"]", b'"', b"\\", b"\n", b"nan", b"1e999", b"-",
    b"9" * 300,
    b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01", b"&a [", b"*a", b"!!", b"%",
    b"<<: ",
]  # fmt: skip

_FORMATS = [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".hdr", ".jp2", ".exr"]
_TOOLS = ["train_net", "test_net", "infer_simple", "sweep", "compare_runs", "reval"]


def hostile_value(draws: random.Random) -> Any:
    """Return a number, a text or a small tree that no reader expects."""
    kind = draws.randrange(8)
    if kind < 3:
        return draws.choice(_NUMBERS)
    if kind < 6:
        return draws.choice(_TEXTS)
    if kind == 6:
        return draws.choice([None, [], {}, [[]], {"": 1}, [None] * 9, {"a": {"a": {}}}])
    nested: Any = draws.choice(_NUMBERS)
    for _ in range(draws.choice([2, 50, 900])):
        nested = [nested] if draws.random() < 0.5 else {"a": nested}
    return nested


def mutated_tree(tree: Any, draws: random.Random) -> Any:
    """Return a copy of a tree of dicts and lists with one to three places changed."""
    tree = copy.deepcopy(tree)
    for _ in range(draws.choice([1, 1, 1, 2, 3])):
        places = list(_places(tree))
        if not places:
            return hostile_value(draws)
        holder, key = draws.choice(places)
        change = draws.randrange(6)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[draws.choice(_TEXTS)] = holder[key]
        elif change == 2 and isinstance(holder, list):
            holder.insert(0, _copied(holder[key]))
        elif change == 3:
            holder[key] = _copied(draws.choice(places)[0])
        else:
            holder[key] = hostile_value(draws)
    return tree


def _copied(tree: Any) -> Any:
    try:
        return copy.deepcopy(tree)
    except RecursionError:  # a change before made it very deep
        return []


def _places(tree: Any, depth: int = 0):
    if depth > 20:
        return
    items: list = list(tree.items()) if isinstance(tree, dict) else []
    if isinstance(tree, list):
        items = list(enumerate(tree))
    for key, value in items:
        yield tree, key
        yield from _places(value, depth + 1)


def mutated_bytes(content: bytes, draws: random.Random) -> bytes:
    """Return bytes with bits flipped, parts cut, repeated, moved or replaced."""
    data = bytearray(content)
    for _ in range(draws.choice([1, 1, 1, 2, 5, 20])):
        # Headers are the most interesting part.
        end = max(1, len(data) if draws.random() < 0.5 else min(len(data), 64))
        at, length = draws.randrange(end), draws.choice([1, 2, 4, 8, 64, 1024])
        change = draws.randrange(7)
        if change == 0 and data:
            data[at % len(data)] ^= 1 << draws.randrange(8)
        elif change == 1 and data:
            data[at % len(data)] = draws.choice([0, 1, 0x7F, 0x80, 0xFF, draws.randrange(256)])
        elif change == 2:
            data[at:at] = draws.choice(_BYTES)
        elif change == 3:
            del data[at : at + length]
        elif change == 4:
            data[at:at] = data[at : at + length] * draws.choice([1, 2, 50])
        elif change == 5:
            data[at : at + len(data[:4])] = draws.choice(_BYTES)[:4]
        else:
            del data[at:]
    return bytes(data)


class Cases:
    """Makes the files of cases.

    Args:
        folder: an existing folder, for valid files that the cases refer to.
        config: path of a valid configuration on a data set "squares".
    """

    def __init__(self, folder: Path, config: Path):
        self._path = str(config)
        self._config = yaml.safe_load(config.read_text())
        self._annotations = json.loads((folder / "squares" / "annotations.json").read_text())
        self._makers: dict[str, Callable[[random.Random], dict[str, bytes]]] = {
            "yaml": self._yaml,
            "coco": self._coco,
            "detections": self._detections,
            "image": self._image,
            "weights": self._weights,
            "proposals": self._proposals,
            "pth": self._pth,
            "caffe": self._caffe,
            "sweep": self._sweep,
            "log": self._log,
            "command": self._command,
        }
        self._valid: dict[str, bytes] = {}

    @property
    def kinds(self) -> list[str]:
        return list(self._makers)

    def make(self, kind: str, number: int) -> dict[str, bytes]:
        """Return the files of a case: {name: content}. "main" is the one that is read."""
        return self._makers[kind](random.Random(f"{kind} {number}"))

    def _once(self, name: str, make: Callable[[], bytes]) -> bytes:
        if name not in self._valid:
            self._valid[name] = make()
        return self._valid[name]

    def _yaml(self, draws: random.Random) -> dict[str, bytes]:
        return {"main": _as_text(self._config, draws, _dump_yaml)}

    def _coco(self, draws: random.Random) -> dict[str, bytes]:
        return {"main": _as_text(self._annotations, draws, _dump_json)}

    def _detections(self, draws: random.Random) -> dict[str, bytes]:
        found = [
            {
                "image_id": 1 + n % 3,
                "category_id": 1 + n % 2,
                "bbox": [1.5, 2, 30, 40],
                "score": 0.5,
            }
            for n in range(6)
        ]
        return {"main": _as_text(found, draws, _dump_json)}

    def _image(self, draws: random.Random) -> dict[str, bytes]:
        kind = draws.choice(_FORMATS)
        picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
        source: np.ndarray = picture / np.float32(255) if kind in (".hdr", ".exr") else picture

        def encode() -> bytes:
            try:
                return cv2.imencode(kind, source)[1].tobytes()
            except cv2.error:  # a format that this OpenCV does not write
                return cv2.imencode(".png", picture)[1].tobytes()

        return {"main": mutated_bytes(self._once(kind, encode), draws)}

    def _weights(self, draws: random.Random) -> dict[str, bytes]:
        def content() -> dict:
            blobs = {f"b{n}": np.arange(6, dtype=np.float32).reshape(2, 3) for n in range(3)}
            return {"blobs": blobs, "cfg": "MODEL: {}", "classes": ["a", "b"], "data": None}

        return {"main": _as_pickle(content(), draws)}

    def _proposals(self, draws: random.Random) -> dict[str, bytes]:
        boxes = [np.array([[1, 2, 30, 40], [5, 5, 9, 9]], np.float32) for _ in range(2)]
        content = {"boxes": boxes, "scores": [np.ones(2, np.float32)] * 2, "ids": [1, 2], "cfg": ""}
        return {"main": _as_pickle(content, draws)}

    def _pth(self, draws: random.Random) -> dict[str, bytes]:
        import torch

        def save(legacy: bool) -> bytes:
            file = io.BytesIO()
            state = {"a.weight": torch.ones(2, 3), "b": torch.arange(4)}
            torch.save(
                {"meta": {"x": 1}, "state_dict": state}, file,
                _use_new_zipfile_serialization=not legacy,
            )  # fmt: skip
            return file.getvalue()

        legacy = draws.random() < 0.5
        return {"main": mutated_bytes(self._once(f"pth{legacy}", lambda: save(legacy)), draws)}

    def _caffe(self, draws: random.Random) -> dict[str, bytes]:
        definition = (
            b'input: "data" input_dim: 1 input_dim: 8 input_dim: 1 input_dim: 1\n'
            b'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"\n'
            b"        inner_product_param { num_output: 4 bias_term: false } }\n"
        )
        numbers = np.ones(32, np.float32).tobytes()
        blob = b"\x3a" + _length(b"\x3a\x04\x0a\x02\x04\x08" + b"\x2a" + _length(numbers))
        weights = b"\xa2\x06" + _length(b"\x0a\x02fc\x12\x0cInnerProduct" + blob)
        which = draws.randrange(3)
        return {
            "net.prototxt": mutated_bytes(definition, draws) if which != 1 else definition,
            "main": mutated_bytes(weights, draws) if which != 0 else weights,
        }

    def _sweep(self, draws: random.Random) -> dict[str, bytes]:
        spec = {
            "variants": {
                "a": {"config": self._path},
                "b": {"config": self._path, "overrides": {"FPN.DIM": 32}},
            },
            "seeds": [1, 2], "baseline": "a", "primary": "AP", "group": "g", "folds": {"count": 3},
            "datasets": {"x": {"SOLVER.MAX_ITER": 3}}, "sizes": [64],
            "overrides": {"LIBRA.LOG_PERIOD": 1},
        }  # fmt: skip
        return {"main": _as_text(spec, draws, _dump_yaml)}

    def _log(self, draws: random.Random) -> dict[str, bytes]:
        lines = [
            {"iter": n, "loss": 0.5, "time": 0.1, "eta": "0:00:01", "mem": 9} for n in range(3)
        ]
        parts = [_as_text(line, draws, _dump_json) for line in lines]
        return {"main": b"\n".join(parts)}

    def _command(self, draws: random.Random) -> dict[str, bytes]:
        """A list of arguments; each case names a configuration that does not exist, or none."""
        words = ["--cfg", "none.yaml", "SOLVER.MAX_ITER", "3", "TRAIN.SCALES", "(64,)", "--range"]
        for _ in range(draws.choice([1, 2, 4])):
            at = draws.randrange(len(words) + 1)
            text = draws.choice([*_TEXTS, "FPN.DIM", "LIBRA", "--skip-test", "TRAIN", "SOLVER.LRS"])
            change = draws.randrange(3)
            if change == 0:
                words.insert(at, text)
            elif change == 1:
                words[at % len(words)] = text
            elif len(words) > 1:
                del words[at % len(words)]
        # No program can be given a null character.
        words = [word.replace("\0", "0") for word in words]
        return {"main": json.dumps([draws.choice(_TOOLS), *words]).encode()}


def _length(content: bytes) -> bytes:
    """Return content after its length, as a protocol buffer has it."""
    size, prefix = len(content), b""
    while size > 127:
        prefix, size = prefix + bytes([size & 127 | 128]), size >> 7
    return prefix + bytes([size]) + content


def _as_text(tree: Any, draws: random.Random, dump: Callable[[Any], str]) -> bytes:
    """Return a changed tree as text, and sometimes changed text of the tree."""
    if draws.random() < 0.7:
        return dump(mutated_tree(tree, draws)).encode("utf-8", "surrogatepass")
    return mutated_bytes(dump(tree).encode(), draws)


def _as_pickle(tree: Any, draws: random.Random) -> bytes:
    protocol = draws.choice([2, 3, 4])
    if draws.random() < 0.4:
        with contextlib.suppress(UnicodeError, RecursionError):  # values that no pickle holds
            return pickle.dumps(mutated_tree(tree, draws), protocol)
    return mutated_bytes(pickle.dumps(tree, protocol), draws)


def _dump_json(tree: Any) -> str:
    try:
        return json.dumps(tree)
    except (TypeError, ValueError, RecursionError):
        return "[" * 5000


def _dump_yaml(tree: Any) -> str:
    try:
        return yaml.safe_dump(tree, allow_unicode=True)
    except (yaml.YAMLError, RecursionError, ValueError):
        return _dump_json(tree)
