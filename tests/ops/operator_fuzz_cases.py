"""Cases for fuzzing the native operators: valid small ones, changed as bytes decide.

The same bytes always give the same case, so that a fuzzer can learn from them and a case that
failed can be kept.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Sequence

import numpy as np
from case_inputs import make_cases
from map_cases import ROIS
from native_runner import normal

from detectron_ext.ops.table import OPERATORS

_SIDES = (0, 1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 33, 64, 65)
_TYPES = (
    np.float32, np.int32, np.float64, np.int64, np.uint8, np.bool_, np.float16, np.int8,
)  # fmt: skip
_NUMBERS = (
    0.0, -1.0, 1.0, 0.5, 2.0, -0.0, 1e-38, 1e-45, 1e30, -1e30, 3.4e38, float("nan"), float("inf"),
    float("-inf"), 2.0**31, 2.0**31 - 1, -(2.0**31), 2.0**32, 2.0**63, 255.0, 256.0, 65535.0, -2.0,
    1e9,
)  # fmt: skip
_INTEGERS = (
    0, 1, 2, 3, -1, -2, 4, 7, 8, 9, 16, 31, 63, 100, 1000, 65536, 2**31 - 1, -(2**31), 2**31, 2**40,
    2**62, 2**63 - 1, -(2**63),
)  # fmt: skip
_TEXTS = ("", "NCHW", "NHWC", "mmdet", "paper", "x" * 300)
_LARGEST = 1 << 16  # elements of an input: larger ones only take time


class Draws:
    """Decisions that bytes make; when they are used up, all further ones are 0."""

    def __init__(self, content: bytes):
        self._content, self._at = content, 0

    def below(self, count: int) -> int:
        """Return a number of [0, count); count is at most 65,536 and may not be 0."""
        width = 1 if count <= 256 else 2
        taken = self._content[self._at : self._at + width]
        self._at += width
        return int.from_bytes(taken.ljust(width, b"\0"), "little") % count

    def choice(self, values: Sequence) -> Any:
        return values[self.below(len(values))]


class FuzzCase(NamedTuple):
    """An operator with changed inputs and arguments.

    Attributes:
        operator: its name.
        inputs: arrays; an operator may refuse them.
        arguments: likewise.
        outputs: the number of outputs, or their names.
        of_gradient: the changes of the inputs of the gradient's operator; None runs the operator
            and its gradient without a change in between.
        in_table: whether there is a float64 definition.
    """

    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]
    outputs: int | Sequence[str]
    of_gradient: Draws | None
    in_table: bool


class _Base(NamedTuple):
    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]
    outputs: int | Sequence[str]


_SMALL = (2, 8, 5, 6)


def _layer_bases(random: np.random.RandomState) -> list[_Base]:
    """Return small cases of the operators that the library replaces or adds."""
    x = normal(random, *_SMALL)
    vectors = [normal(random, 8), normal(random, 8)]
    anchors = np.float32([[-8, -8, 23, 23], [-24, -8, 39, 23]])
    proposals = [
        normal(random, 2, 2, 5, 6), 0.3 * x, np.float32([[80, 96, 1]] * 2), anchors
    ]  # fmt: skip
    rois = ROIS[:4] / np.float32([1, 4, 4, 4, 4])
    pooled = {"pooled_h": 3, "pooled_w": 2, "spatial_scale": 0.5}
    conv = [x, normal(random, 4, 8, 3, 3), normal(random, 4)]
    deep = [x, normal(random, 8, 1, 3, 3), normal(random, 8)]
    point = [x, normal(random, 6, 8, 1, 1), normal(random, 6)]
    wide = [normal(random, 1, 32, 9, 11), normal(random, 32, 32, 3, 3), normal(random, 32)]
    flat = [normal(random, 6, 10), normal(random, 4, 10), normal(random, 4)]
    numbers = [normal(random, 20) for _ in range(3)]
    in_place = ["output0", "output1", "input3"]
    return [
        _Base("AffineChannel", [x, *vectors], {}, 1),
        _Base("AffineChannel", [x, *vectors], {"is_learnable": 1}, 1),
        _Base("Clip", [x], {"min": -1.0, "max": 1.0}, 1),
        _Base("Relu", [x], {}, 1),
        _Base("Conv", conv, {"kernel": 3, "pad": 1, "stride": 1, "dilation": 1}, 1),
        _Base("Conv", wide, {"kernel": 3, "pads": [1, 1, 1, 1], "group": 1}, 1),
        _Base("Conv", point, {"kernel": 1, "stride": 2}, 1),
        _Base("Conv", deep, {"kernel": 3, "pads": [1, 1, 1, 1], "group": 8, "stride": 2}, 1),
        _Base("FC", flat, {"axis": 1, "axis_w": 1}, 1),
        _Base("GenerateProposals", proposals, {
            "spatial_scale": 1 / 16, "pre_nms_topN": 30, "post_nms_topN": 9, "nms_thresh": 0.7,
            "min_size": 0.0,
        }, 2),
        _Base("GroupNorm", [x, *vectors], {"group": 4, "epsilon": 1e-5}, 3),
        _Base("MaxPool", [x], {"kernel": 3, "stride": 2, "pad": 1}, 1),
        _Base("PSRoIPool", [x, rois], {"spatial_scale": 0.5, "group_size": 2, "output_dim": 2}, 2),
        _Base("RoIAlign", [x, rois], {**pooled, "sampling_ratio": 2, "aligned": 0}, 1),
        _Base("RoIAlign", [x, rois], {**pooled, "sampling_ratio": 0}, 1),
        _Base("SampleAs", [normal(random, 9, 4), np.arange(-3, 6, dtype=np.int32)], {}, 1),
        _Base("Sum", [x, x, x], {}, 1),
        _Base("WeightedSum", [numbers[0], np.float32([0.5]), numbers[1], np.float32([-2])], {}, 1),
        _Base("MomentumSGDUpdate", [*numbers[:2], np.float32([0.1]), numbers[2]],
              {"momentum": 0.9, "nesterov": 1}, in_place),
    ]  # fmt: skip


@functools.lru_cache(maxsize=None)
def _bases() -> dict[str, list[_Base]]:
    """Return valid cases by operator."""
    found: dict[str, list[_Base]] = {}
    for case in make_cases(0):
        outputs = len(OPERATORS[case.operator].outputs)
        if case.operator == "NonLocalBlock":
            outputs = 3  # and what its gradient reads
        elif case.operator == "BalancedPyramidScatter":
            outputs = len(case.inputs) - 1
        if sum(array.size for array in case.inputs) < 4000:
            base = _Base(case.operator, case.inputs, case.arguments, outputs)
            found.setdefault(case.operator, []).append(base)
    for base in _layer_bases(np.random.RandomState(0)):
        found.setdefault(base.operator, []).append(base)
    return found


def operators() -> list[str]:
    """Return the names of the operators that are fuzzed."""
    return sorted(_bases())


def make_case(content: bytes) -> FuzzCase:
    """Return the case that bytes describe: the first chooses the operator, then come changes."""
    draws = Draws(content)
    base = draws.choice(_bases()[draws.choice(operators())])
    in_table = base.operator in OPERATORS
    if draws.below(3) == 2:  # the gradient's operator gets what does not fit
        return FuzzCase(*base, of_gradient=draws, in_table=in_table)
    inputs = changed_arrays(base.inputs, draws)
    arguments = _changed_arguments(base.arguments, draws)
    return FuzzCase(base.operator, inputs, arguments, base.outputs, None, in_table)


def changed_arrays(arrays: Sequence[np.ndarray], draws: Draws) -> list[np.ndarray]:
    """Return arrays of which up to three have another shape, type or content."""
    found = list(arrays)
    for _ in range(draws.below(4)):
        if not found:
            break
        at = draws.below(len(found))
        change = draws.below(8)
        if change < 3:
            found[at] = _with_shape(found[at], _changed_shape(found[at].shape, draws))
        elif change == 3:
            found[at] = _with_values(found[at], draws)
        elif change == 4:
            kind = draws.choice(_TYPES)
            with np.errstate(all="ignore"):
                found[at] = found[at].astype(kind)
        elif change == 5:  # all arrays get one size on one axis
            axis, side = draws.below(5), draws.choice(_SIDES)
            found = [_with_shape(a, _with_side(a.shape, axis, side)) for a in found]
        elif change == 6:
            found[at] = found[draws.below(len(found))]
        elif draws.below(2):
            del found[at]
        else:
            found.insert(at, found[at])
    return found


def _changed_shape(shape: tuple, draws: Draws) -> tuple:
    change = draws.below(5)
    axis = draws.below(5)
    if change == 0:
        return shape[:-1]
    if change == 1:
        return (*shape[:axis], 1, *shape[axis:])
    if change == 2 and shape:
        return (*shape[:-1], shape[-1] + draws.below(3) - 1) if shape[-1] else shape
    return _with_side(shape, axis, draws.choice(_SIDES))


def _with_side(shape: tuple, axis: int, side: int) -> tuple:
    return (*shape[:axis], side, *shape[axis + 1 :]) if axis < len(shape) else shape


def _with_shape(array: np.ndarray, shape: tuple) -> np.ndarray:
    """Return an array of another shape, with the same numbers again and again."""
    size = int(np.prod(shape, dtype=np.int64))
    if size > _LARGEST:
        return array
    return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)


def _with_values(array: np.ndarray, draws: Draws) -> np.ndarray:
    """Return an array in which some elements, or all, have a number that is not expected."""
    changed = array.copy()
    with np.errstate(all="ignore"):
        value = np.array(draws.choice(_NUMBERS)).astype(array.dtype)
    if not changed.size or draws.below(2):
        changed[...] = value
    for _ in range(draws.below(4)):
        if changed.size:
            changed.flat[draws.below(65536) % changed.size] = value
    return changed


def _changed_arguments(arguments: dict[str, Any], draws: Draws) -> dict[str, Any]:
    found = dict(arguments)
    names = sorted(found)
    for _ in range(draws.below(3)):
        if not names:
            break
        name = draws.choice(names)
        kind = draws.below(6)
        if kind == 0:
            found.pop(name, None)
        elif kind == 1 or isinstance(arguments[name], float):
            found[name] = draws.choice(_NUMBERS)
        elif kind == 2 and isinstance(arguments[name], str):
            found[name] = draws.choice(_TEXTS)
        elif isinstance(arguments[name], list):
            found[name] = [draws.choice(_INTEGERS) for _ in range(draws.below(6))]
        else:
            found[name] = draws.choice(_INTEGERS)
    if draws.below(16) == 15:
        found["order"] = draws.choice(_TEXTS)
    return found
