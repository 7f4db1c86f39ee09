"""Converts entries of upstream's roidb for our samplers, and seeds the draws of these."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class GroundTruth(NamedTuple):
    """The annotated objects of one image, in pixels of the network's input.

    Attributes:
        boxes: (G, 4) float32 rows (x1, y1, x2, y2).
        classes: (G,) int32 class numbers, from 1.
        is_crowd: (G,) bool.
        size: rows and columns of the image before padding.
    """

    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    size: tuple[int, int]

    @property
    def image(self) -> np.ndarray:
        """An empty array (rows, columns, 0) that has the size of the image."""
        return np.zeros((*self.size, 0), dtype=np.float32)

    @classmethod
    def of(cls, entry: dict, scale: float) -> GroundTruth:
        """Return the ground truth of a roidb entry.

        Args:
            entry: an entry of upstream's roidb.
            scale: network pixels for each pixel of the image file.
        """
        rows = np.flatnonzero(entry["gt_classes"] > 0)
        return cls(
            boxes=(entry["boxes"][rows] * scale).astype(np.float32),
            classes=entry["gt_classes"][rows].astype(np.int32),
            is_crowd=entry["is_crowd"][rows].astype(bool),
            size=(int(np.round(entry["height"] * scale)), int(np.round(entry["width"] * scale))),
        )


def draw_source() -> np.random.Generator:
    """Return a generator seeded by numpy's global one, which upstream seeds with RNG_SEED."""
    return np.random.default_rng(np.random.randint(2**31))
