"""Conversion of weights of Caffe, such as ResNets that were trained on ImageNet.

OpenCV reads the files, in a process of its own (`conversion.caffe_parser`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Sequence

import numpy as np

from detectron_ext.conversion import caffe_parser as parser
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.errors import WeightsError
from detectron_ext.input_files import open_input
from detectron_ext.limits import MAX_PICKLE_BYTES

_EPSILON = 1e-5
# What the parser may take: for the smallest files, and further for their bytes.
_SECONDS, _BYTES_PER_SECOND = 25, 4 << 20
_MEMORY, _MEMORY_PER_BYTE = 512 << 20, 10
# The blobs of Detectron's ResNets.
_KNOWN = re.compile(
    r"conv1_[wb]|res_conv1_bn_[sb]|res[2-5]_\d+_branch(1|2[abc])_([wb]|bn_[sb])|fc1000_[wb]"
)
_WEIGHTED = ("Convolution", "Deconvolution", "InnerProduct")


def convert_caffe_model(prototxt: str, caffemodel: str, target: str) -> list:
    """Convert the weights of a Caffe network to a file like Detectron's ImageNet weights.

    A BatchNorm layer and its Scale layer become one frozen scale and bias, ``<layer>_bn_s`` and
    ``<layer>_bn_b``. The Scale layer of the BatchNorm layer ``bn<name>`` must be ``scale<name>``,
    as in the published ResNets. The layers of residual networks get Detectron's names.

    Args:
        prototxt: file with the definition of the network.
        caffemodel: file with its weights.
        target: weights file to write.

    Returns:
        The names of the blobs, sorted.

    Raises:
        UserError: a file cannot be read or written, or a Scale layer belongs to no BatchNorm.
    """
    layers = _read(prototxt, caffemodel)
    _check_scales(caffemodel, layers)
    blobs: dict[str, np.ndarray] = {}
    for name, (kind, arrays) in layers.items():
        if kind in _WEIGHTED and arrays:
            blobs[blob_name(name) + "_w"] = arrays[0]
            if len(arrays) > 1:
                blobs[blob_name(name) + "_b"] = arrays[1].ravel()
        elif kind == "BatchNorm":
            scale, bias = _frozen(caffemodel, name, arrays, layers)
            here = blob_name("res" + name[len("bn") :] if name.startswith("bn") else name) + "_bn"
            blobs[here + "_s"], blobs[here + "_b"] = scale, bias
    if not blobs:
        raise WeightsError(f"{caffemodel} has no weights for the layers of {prototxt}")
    write_weights(target, Weights(blobs, None, None))
    return sorted(blobs)


def _read(prototxt: str, caffemodel: str) -> dict[str, tuple]:
    """Return layer name to (type, arrays); another process parses the files.

    Raises:
        WeightsError: a file cannot be read, or the parser fails, crashes, or takes more time or
            memory than files of this size need.
    """
    size = sum(map(_size, (prototxt, caffemodel)))
    files = f"{prototxt} and {caffemodel}"
    wrong = f"{files} are not a Caffe network and its weights: "
    seconds = _SECONDS + size / _BYTES_PER_SECOND
    command = [
        *map(os.path.abspath, (prototxt, caffemodel)),
        str(_MEMORY + _MEMORY_PER_BYTE * size),
    ]
    try:
        parsed = subprocess.run(
            [sys.executable, "-m", parser.__name__, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(f"{wrong}OpenCV has not read them in {seconds:.0f} s") from None
    line, _, numbers = parsed.stdout.partition(b"\n")
    if parsed.returncode < 0:
        name = signal.Signals(-parsed.returncode).name
        raise WeightsError(f"{wrong}OpenCV's parser crashed ({name}): a file is damaged")
    if parsed.returncode:
        last = parsed.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise WeightsError(f"cannot read {files}: {last[:200]}")
    content = json.loads(line)
    if "error" in content:
        raise WeightsError(wrong + content["error"])
    return _layers(content["layers"], np.frombuffer(numbers, dtype="<f4"))


def _size(path: str) -> int:
    """Return the size of a file in bytes."""
    try:
        with open_input(path, MAX_PICKLE_BYTES) as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


def _layers(heads: list, numbers: np.ndarray) -> dict[str, tuple]:
    """Divide the numbers among layers.

    Args:
        heads: [name, type, list of the shapes of its blobs] of each layer.
        numbers: (N,) float32, those of all blobs.
    """
    layers, start = {}, 0
    for name, kind, shapes in heads:
        arrays = []
        for shape in shapes:
            end = start + int(np.prod(shape, dtype=np.int64))
            arrays.append(numbers[start:end].reshape(shape).astype(np.float32))
            start = end
        layers[name] = (kind, arrays)
    return layers


def _check_scales(path: str, layers: dict[str, tuple]) -> None:
    """Refuse a Scale layer that belongs to no BatchNorm layer: its weights would be lost."""
    taken = {_scale_name(name) for name, (kind, _) in layers.items() if kind == "BatchNorm"}
    for name, (kind, arrays) in layers.items():
        if kind == "Scale" and arrays and name not in taken:
            raise WeightsError(
                f"{path}: the Scale layer {name} belongs to no BatchNorm layer: name the pair "
                "bn<name> and scale<name>, as in the published ResNets"
            )


def _scale_name(batch_norm: str) -> str:
    return "scale" + batch_norm[len("bn") :]


def _frozen(
    path: str, name: str, arrays: list[np.ndarray], layers: dict[str, tuple]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and bias that replace a BatchNorm layer and its Scale layer.

    Args:
        path: file of the weights, for messages.
        name: name of the BatchNorm layer.
        arrays: its mean and variance (C,) and factor (1,).
        layers: layer name to (type, arrays).
    """
    if len(arrays) != 3:
        raise WeightsError(f"{path}: layer {name} has no mean, variance and factor")
    mean, variance, factor = (array.ravel().astype(np.float64) for array in arrays)
    # Caffe stores sums. Mean and variance are these sums divided by the factor.
    divisor = factor[0] if factor[0] else 1.0
    deviation = np.sqrt(variance / divisor + _EPSILON)
    gamma, beta = np.ones_like(mean), np.zeros_like(mean)
    kind, learned = layers.get(_scale_name(name), ("", []))
    if kind == "Scale" and learned:
        gamma = learned[0].ravel()
        beta = learned[1].ravel() if len(learned) > 1 else beta
    scale = gamma / deviation
    bias = beta - mean / divisor * scale
    return scale.astype(np.float32), bias.astype(np.float32)


def unrecognised(blobs: Sequence[str]) -> list[str]:
    """Return the blobs that no residual body reads, apart from those of the classifier ``fc1000``.

    A network whose layers have other names than the published ones would else be converted without
    a word to blobs that a detector does not use.
    """
    return [name for name in blobs if not _KNOWN.fullmatch(name)]


def blob_name(layer: str) -> str:
    """Return Detectron's name of a layer.

    ``res4b11_branch2c`` and ``res4l_branch2c`` become ``res4_11_branch2c``. Other names do not
    change.
    """
    match = re.fullmatch(r"res(\d)(?:([a-z])|b(\d+))(_.*)?", layer)
    if not match:
        return layer
    stage, letter, number, rest = match.groups()
    block = int(number) if number else ord(letter) - ord("a")
    return f"res{stage}_{block}{rest or ''}"
