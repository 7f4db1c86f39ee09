"""An entry of upstream's roidb as our samplers take it, and where their draws come from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class GroundTruth(NamedTuple):
    """The annotated objects of one image, in pixels of the network's input.

    Attributes:
        boxes: (G, 4) float32.
        classes: (G,) int32, 1-based.
        is_crowd: (G,) bool.
        size: rows and columns of the image, before padding.
    """

    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    size: tuple

    @property
    def image(self) -> np.ndarray:
        """Stands for the image where only its shape is asked for: (rows, columns, 0)."""
        return np.zeros((*self.size, 0), dtype=np.float32)

    @classmethod
    def of(cls, entry: dict, scale: float) -> GroundTruth:
        """The ground truth of a roidb entry, at ``scale`` network pixels a pixel of the file."""
        rows = np.flatnonzero(entry["gt_classes"] > 0)
        return cls(
            boxes=(entry["boxes"][rows] * scale).astype(np.float32),
            classes=entry["gt_classes"][rows].astype(np.int32),
            is_crowd=entry["is_crowd"][rows].astype(bool),
            size=(int(np.round(entry["height"] * scale)), int(np.round(entry["width"] * scale))),
        )


def draw_source() -> np.random.Generator:
    """A generator seeded from numpy's global one, which upstream seeds with RNG_SEED."""
    return np.random.default_rng(np.random.randint(2**31))
