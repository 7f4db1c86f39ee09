"""Checks of a Python operator's inputs; each raises ValueError with the operator's name.

Messages call the inputs by the names that the native operators use for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def require(condition: bool, operator: str, message: str) -> None:
    """Raise ValueError, naming the operator, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{operator}: {message}")


def require_types(
    operator: str, inputs: Sequence[np.ndarray], types: Sequence[tuple[str, ...]]
) -> None:
    """Raise ValueError unless each input has one of the element types allowed for it.

    Args:
        operator: the operator's name, for the message.
        inputs: the inputs; one without elements may be of any type.
        types: as `PythonOperator.input_types`.
    """
    for i, x in enumerate(inputs):
        allowed = types[min(i, len(types) - 1)]
        require(
            x.dtype.name in allowed or x.size == 0,
            operator,
            f"input {i} of shape {x.shape} must be {' or '.join(allowed)}, not {x.dtype.name}",
        )


def require_map(operator: str, name: str, x: np.ndarray) -> None:
    """Raise ValueError unless x is (N, C, H, W)."""
    require(x.ndim == 4, operator, f"{name} must be (N, C, H, W), not {x.shape}")


def require_same_shape(
    operator: str, name: str, x: np.ndarray, other_name: str, other: np.ndarray
) -> None:
    """Raise ValueError unless two inputs have the same shape.

    Args:
        operator: the operator's name, for the message.
        name: the first input's name.
        x: the first input.
        other_name: the second input's name.
        other: the second input.
    """
    require(
        x.shape == other.shape,
        operator,
        f"{name} {x.shape} must have the shape of {other_name} {other.shape}",
    )


def require_scalar(operator: str, name: str, x: np.ndarray) -> None:
    """Raise ValueError unless x holds one value."""
    require(x.size == 1, operator, f"{name} must be one value, not {x.shape}")
