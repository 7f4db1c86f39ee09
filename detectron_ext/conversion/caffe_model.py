"""Conversion of weights of Caffe, such as ResNets that were trained on ImageNet.

OpenCV reads the files.
"""

from __future__ import annotations

import re
from typing import Sequence

import cv2
import numpy as np

from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.errors import WeightsError

_EPSILON = 1e-5
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
    """Return layer name to (type, arrays)."""
    contents = []
    for path in (prototxt, caffemodel):
        try:
            contents.append(np.fromfile(path, dtype=np.uint8))
        except OSError as error:
            raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    try:
        net = cv2.dnn.readNetFromCaffe(*contents)
        layers = {name: net.getLayer(net.getLayerId(name)) for name in net.getLayerNames()}
    except cv2.error as error:
        raise WeightsError(
            f"{prototxt} and {caffemodel} are not a Caffe network and its weights: "
            + str(getattr(error, "err", error))
        ) from error
    return {
        name: (layer.type, [np.array(blob) for blob in layer.blobs])
        for name, layer in layers.items()
    }


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
