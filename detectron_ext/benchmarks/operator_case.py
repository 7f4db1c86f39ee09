"""What is timed: an operator with inputs, beside the same thing in eager PyTorch."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np


class OperatorCase(NamedTuple):
    """An operator, or a few in a row, with inputs.

    Attributes:
        name: of the operator.
        size: what it runs on, for people.
        inputs: arrays by blob name.
        add: adds the operators to a Caffe2 net, given blob names; returns the output blobs.
        eager: the same from tensors by name; returns the output tensors.
        differentiable: names of the inputs that receive gradients; none for an operator without.
    """

    name: str
    size: str
    inputs: dict[str, np.ndarray]
    add: Callable[[Any], list]
    eager: Callable[[dict], list]
    differentiable: tuple[str, ...]


def normal(rng, *shape: int) -> np.ndarray:
    """Standard normal numbers, float32."""
    return rng.standard_normal(shape, dtype=np.float32)
