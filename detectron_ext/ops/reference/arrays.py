"""The number type of the definitions."""

from __future__ import annotations

import numpy as np


def float64(x: np.ndarray | float) -> np.ndarray:
    """Return x as a float64 array of the same shape; a number becomes an array without axes."""
    return np.asarray(x, np.float64)
