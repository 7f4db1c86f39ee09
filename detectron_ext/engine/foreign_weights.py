"""Recognises weights files of other programs, so that a message can name their converter."""

from __future__ import annotations

import zipfile

from detectron_ext.errors import WeightsError
from detectron_ext.input_files import open_input
from detectron_ext.shipped_files import tool_command

# How torch.save began a file before it wrote zip archives: a pickled number.
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_HDF5 = b"\x89HDF\r\n\x1a\n"

_NO_CONVERTER = "which this project does not convert"


def _torch() -> str:
    return (
        "a PyTorch checkpoint: convert a detector of mmdetection with "
        f"`{tool_command('convert_mmdet_weights')}` and a backbone with "
        f"`{tool_command('convert_backbone')}`"
    )


def _backbone(what: str) -> str:
    return f"{what}: convert a backbone with `{tool_command('convert_backbone')}`"


def _caffe() -> str:
    return f"a Caffe model: convert it with `{tool_command('pickle_caffe_blobs')}`"


# Files without a mark in their content are known by their extension.
_BY_EXTENSION = {
    ".pth": _torch,
    ".pt": _torch,
    ".pth.tar": _torch,
    ".ckpt": _torch,
    ".caffemodel": _caffe,
    ".prototxt": _caffe,
    ".pb": lambda: "a Caffe2 or TensorFlow net: name the .pkl that it was exported from",
    ".onnx": lambda: f"an ONNX model, {_NO_CONVERTER}",
    ".weights": lambda: f"a Darknet model, {_NO_CONVERTER}",
}


def refuse_foreign_content(path: str) -> None:
    """Refuse a file whose content is that of another program.

    Raises:
        WeightsError: the content belongs to PyTorch, Keras, numpy or safetensors; the message names
            the converter, if there is one. A file that cannot be read raises nothing.
    """
    try:
        with open_input(path) as file:
            start = file.read(64)
        what = _kind_of_archive(path) if start.startswith(b"PK") else _kind(start)
    except (OSError, zipfile.BadZipFile):
        return
    if what:
        raise _refusal(path, what)


def refusal_by_name(path: str) -> WeightsError | None:
    """Return the error for a file whose name has the extension of another program, else None.

    Args:
        path: a file that is no weights file of this project.
    """
    for extension, describe in _BY_EXTENSION.items():
        if path.lower().endswith(extension):
            return _refusal(path, describe())
    return None


def refuse_foreign_entries(path: str, content: dict) -> None:
    """Refuse a pickle that is a model of detectron2: {"model": {name: array}, "__author__": ...}.

    Raises:
        WeightsError: it is one.
    """
    if isinstance(content.get("model"), dict) and "blobs" not in content:
        raise _refusal(path, f"a model of detectron2, {_NO_CONVERTER}")


def _kind_of_archive(path: str) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("data.pkl") for name in names):
        return _torch()
    if names and all(name.endswith(".npy") for name in names):
        return "a numpy archive: write its arrays with detectron_ext.engine.weights_file"
    return "a zip archive: unpack it"


def _kind(start: bytes) -> str:
    if start.startswith(_OLD_TORCH):
        return _torch()
    if start.startswith(_HDF5):
        return f"an HDF5 file, as Keras writes, {_NO_CONVERTER}"
    if start[8:10] == b'{"':  # after the length of the header
        return _backbone("a safetensors file")
    return ""


def _refusal(path: str, what: str) -> WeightsError:
    return WeightsError(f"weights {path} are {what}; see docs/weights.md")
