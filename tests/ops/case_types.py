"""What a case of an operator is."""

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
        outputs: their number, or their names where some are inputs (input0, ...) changed in place.
        differentiable: how many of the outputs, the first ones, have gradients; 0 for no gradient.
    """

    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]
    outputs: int | Sequence[str] = 1
    differentiable: int = 1
