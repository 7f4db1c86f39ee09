"""A case of the benchmark: an operator with inputs, and the same formula in PyTorch."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np


class OperatorCase(NamedTuple):
    """An operator, or a few operators in sequence, with inputs.

    Attributes:
        name: the name in the table.
        size: the size of the inputs, as the table shows it.
        inputs: arrays by blob name.
        add: adds the operators to a Caffe2 net and returns the output blobs.
        eager: computes the same in PyTorch, given tensors by name, and returns the output tensors.
        differentiable: names of the inputs that receive gradients; empty if the backward pass is
            not measured.
    """

    name: str
    size: str
    inputs: dict[str, np.ndarray]
    add: Callable[[Any], list]
    eager: Callable[[dict], list]
    differentiable: tuple[str, ...]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return standard normal numbers, float32."""
    return rng.standard_normal(shape, dtype=np.float32)
