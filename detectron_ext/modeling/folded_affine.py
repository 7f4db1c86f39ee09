"""Fixed scales and biases of channels, folded into the convolutions before them.

A test net multiplies the output of a convolution by fixed numbers (`AffineChannel`, the frozen
BatchNorm). The convolution can do that itself if its filters are multiplied by them before.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np
from caffe2.proto import caffe2_pb2


class Fold(NamedTuple):
    """The parameters of a convolution and of the fixed scale after it, by the names of their blobs.

    Attributes:
        filters: (C', C, h, w) filters of the convolution.
        bias: (C',) its bias; "" if it has none.
        scale: (C',) factor of each channel of its output.
        shift: (C',) number that is added to each channel after that.
        folded_filters: name of the filters that take the place of all four, with ``folded_bias``.
        folded_bias: name of their bias.
    """

    filters: str
    bias: str
    scale: str
    shift: str
    folded_filters: str
    folded_bias: str


def fold_affine_channels(operators: Sequence[Any]) -> tuple[list, list[Fold]]:
    """Return the operators of a test net without the fixed scales that a convolution can do.

    A scale is folded if it is the first reader of the convolution's output, and the only one unless
    it works in place. The blob that it writes keeps its name.

    Args:
        operators: operators of a test net (OperatorDefs) in the order in which they run.

    Returns:
        The operators, and the parameters that the convolutions among them now need.
    """
    made = {blob for operator in operators for blob in operator.output}
    result, folds, gone = [], [], set()
    for number, operator in enumerate(operators):
        if number in gone:
            continue
        after = _affine_after(operators, number, made) if _is_foldable(operator, made) else None
        if after is not None:
            gone.add(after)
            operator, fold = _folded(operator, operators[after])
            folds.append(fold)
        result.append(operator)
    return result, folds


def folded_parameters(
    filters: np.ndarray, bias: np.ndarray | None, scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the filters and the bias of a convolution that scales and shifts its own output.

    Args:
        filters, bias, scale, shift: values of the blobs that a `Fold` names, float32.

    Returns:
        float32 filters, of the shape of ``filters``, and bias (C',).
    """
    factor = scale.astype(np.float64)
    folded = filters * factor.reshape(-1, *[1] * (filters.ndim - 1))
    total = shift if bias is None else shift + bias * factor
    return folded.astype(np.float32), total.astype(np.float32)


def _is_foldable(operator: Any, made: set) -> bool:
    orders = [argument.s for argument in operator.arg if argument.name == "order"]
    return (
        operator.type == "Conv" and orders in ([], [b"NCHW"]) and not made & {*operator.input[1:]}
    )


def _affine_after(operators: Sequence[Any], conv: int, made: set) -> int | None:
    """Return the number of the fixed scale of a convolution's output; None if there is none.

    The convolution will write the scale's output earlier than the scale does. So no operator
    between them may touch that blob.
    """
    blob = operators[conv].output[0]
    users = [n for n in range(conv + 1, len(operators)) if _touches(operators[n], blob)]
    if not users:
        return None
    affine, name = operators[users[0]], operators[users[0]].output[0]
    if affine.type != "AffineChannel" or affine.input[0] != blob or made & {*affine.input[1:]}:
        return None
    between = operators[conv + 1 : users[0]]
    if any(_touches(operator, name) for operator in between):
        return None
    if name == blob:
        return users[0]
    next_user = operators[users[1]] if len(users) > 1 else None
    return None if next_user and blob in next_user.input else users[0]


def _touches(operator: Any, blob: str) -> bool:
    return blob in operator.input or blob in operator.output


def _folded(conv: Any, affine: Any) -> tuple[Any, Fold]:
    bias = conv.input[2] if len(conv.input) > 2 else ""
    _, scale, shift = affine.input
    name = affine.output[0]
    # One convolution may be followed by several scales, and blobs may be written several times.
    both = f"{conv.input[1]}_by_{scale}"
    fold = Fold(conv.input[1], bias, scale, shift, f"{both}_w", f"{both}_b")
    folded = caffe2_pb2.OperatorDef()
    folded.CopyFrom(conv)
    del folded.input[1:]
    folded.input.extend([fold.folded_filters, fold.folded_bias])
    folded.output[0] = name
    kept = [argument for argument in conv.arg if argument.name != "no_bias"]
    folded.ClearField("arg")
    folded.arg.extend(kept)
    return folded, fold
