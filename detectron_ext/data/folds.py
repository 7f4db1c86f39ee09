"""Splits the images of a data set into folds, for cross-validation."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from detectron_ext.errors import DatasetError


def split_in_folds(groups: Sequence[Sequence[int]], num_folds: int, seed: int) -> list[list[int]]:
    """Divide images into folds of nearly equal size; the images of a group stay together.

    The groups are shuffled. Large groups are placed first, each into the smallest fold.

    Args:
        groups: numbers of images, such as `near_duplicates.near_duplicates` returns.
        num_folds: number of folds.
        seed: seed of the shuffling.

    Returns:
        For each fold the numbers of its images, in rising order.

    Raises:
        DatasetError: there are fewer groups than folds.
    """
    if len(groups) < num_folds:
        count = sum(map(len, groups))
        raise DatasetError(
            f"{count} images, of which {len(groups)} are not nearly the same, cannot be divided "
            f"into {num_folds} folds: lower folds"
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for index in sorted(order, key=lambda index: -len(groups[index])):  # keeps the order of equals
        min(folds, key=len).extend(groups[index])
    return [sorted(fold) for fold in folds]
