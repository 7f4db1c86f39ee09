"""Settings of a model in the meta data of mmdetection's checkpoints.

The meta data hold the training configuration as Python source. It is parsed but never run. If it is
missing or has another form, the values of the published configurations are used.
"""

from __future__ import annotations

import ast
from typing import Any, NamedTuple


class CheckpointSettings(NamedTuple):
    """Settings that do not follow from the tensors. None means that the meta data do not tell.

    Attributes:
        style: which convolution of a residual block has the stride: the 3x3 one ("pytorch") or the
            first 1x1 one ("caffe").
        mean, std: mean and standard deviation of each channel, in the order of the network's input.
        to_rgb: whether that order is red, green, blue.
        extra_levels_relu: whether a ReLU is applied to P6 before P7 is made from it.
        extra_levels_on: the map that P6 is made from: "on_input", "on_lateral" or "on_output".
        refine_level: level at which the balanced pyramid is refined; 0 is its finest level.
        anchor_scale: side of the smallest anchor, divided by the stride of its level.
        anchor_ratios: aspect ratios (height / width) of the anchors.
        classes: class names without the background.
    """

    style: str = "pytorch"
    mean: tuple = (123.675, 116.28, 103.53)
    std: tuple = (58.395, 57.12, 57.375)
    to_rgb: bool = True
    extra_levels_relu: bool = False
    extra_levels_on: str | None = None
    refine_level: int | None = None
    anchor_scale: float | None = None
    anchor_ratios: tuple | None = None
    classes: tuple | None = None


def read_settings(meta: dict) -> CheckpointSettings:
    """Find the settings in a checkpoint's meta data.

    Args:
        meta: "config" (version 2) or "cfg" (version 3) is source text; "CLASSES" (version 2) or
            "dataset_meta" (version 3) names the classes.
    """
    found: dict[str, Any] = {}
    source = meta.get("cfg", meta.get("config"))
    for options in _calls(source) if isinstance(source, str) else ():
        for key, value in _settings_of(options).items():
            found.setdefault(key, value)
    return CheckpointSettings(**found, classes=_class_names(meta))


def _calls(source: str) -> list[dict]:
    """Return the keyword arguments of every call, and the items of every dictionary, as dicts.

    A value that is not a literal becomes None.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            pairs = [(getattr(k, "value", getattr(k, "s", None)), v) for k, v in
                     zip(node.keys, node.values)]  # fmt: skip
        else:
            continue
        found.append({key: _literal(value) for key, value in pairs if key is not None})
    return found


def _literal(node: ast.AST) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _settings_of(options: dict) -> dict[str, Any]:
    """Return the settings among the keyword arguments of one call."""
    found: dict[str, Any] = {}
    if options.get("style") in ("pytorch", "caffe") and options.get("depth"):
        found["style"] = options["style"]
    to_rgb = options.get("to_rgb", options.get("bgr_to_rgb"))
    numbers = [_three_numbers(options.get(key)) for key in ("mean", "std")]
    if isinstance(to_rgb, bool) and all(numbers):
        found.update(mean=numbers[0], std=numbers[1], to_rgb=to_rgb)
    if options.get("type") == "FPN":
        relu, extra = options.get("relu_before_extra_convs"), options.get("add_extra_convs")
        found["extra_levels_relu"] = relu is True
        if isinstance(extra, str):
            found["extra_levels_on"] = extra
    if options.get("type") == "BFP" and type(options.get("refine_level")) is int:
        found["refine_level"] = options["refine_level"]
    if options.get("type") == "AnchorGenerator":
        found.update(_anchors_of(options))
    return found


def _anchors_of(options: dict) -> dict[str, Any]:
    found: dict[str, Any] = {}
    scale, scales = options.get("octave_base_scale"), options.get("scales")
    if isinstance(scales, (list, tuple)) and len(scales) == 1:
        scale = scales[0]
    if isinstance(scale, (int, float)):
        found["anchor_scale"] = scale
    ratios = _three_numbers(options.get("ratios"))
    if ratios:
        found["anchor_ratios"] = ratios
    return found


def _three_numbers(value: Any) -> tuple | None:
    is_list = isinstance(value, (list, tuple)) and len(value) == 3
    if is_list and all(isinstance(number, (int, float)) for number in value):
        return tuple(map(float, value))
    return None


def _class_names(meta: dict) -> tuple | None:
    described = meta.get("dataset_meta")
    described = described if isinstance(described, dict) else {}
    names = meta.get("CLASSES") or described.get("classes") or described.get("CLASSES")
    if isinstance(names, str):
        names = (names,)
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
