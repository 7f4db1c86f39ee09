"""The types of the cases."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np


class Case(NamedTuple):
    """An operator with inputs and arguments."""

    label: str
    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]


IMAGES, CHANNELS, HEIGHT, WIDTH = SHAPE = (2, 12, 61, 80)


class BigCase(NamedTuple):
    """An operator with inputs that fill several blocks of work, so that threads share them.

    Attributes:
        outputs: the number of outputs, or their names. Names are needed if some outputs are inputs
            (input0, ...) that are changed in place.
        differentiable: how many of the outputs have gradients: the first ones; 0 for none.
    """

    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]
    outputs: int | Sequence[str] = 1
    differentiable: int = 1
