"""The images of each minibatch."""

from __future__ import annotations

from functools import lru_cache
from typing import Sequence

import numpy as np

from detectron_ext.data.image_record import ImageRecord


class MinibatchOrder:
    """Shuffled minibatches as a pure function of seed and iteration.

    Nothing is stored between calls. So a run that is resumed at an iteration gets the same
    minibatches as an uninterrupted one, and threads may ask in any order.

    Each group of images is an endless sequence of shuffled epochs, cut into minibatches. Without
    aspect grouping there is one group. With it there are two, images at least as wide as high and
    the others, so that little padding is needed; their minibatches alternate in proportion to the
    sizes of the groups. Every image comes equally often, whereas Detectron drops images that do not
    fill a minibatch. A group smaller than a minibatch repeats its images.

    Args:
        records: the training images.
        batch_size: images per minibatch (TRAIN.IMS_PER_BATCH); may exceed the number of images.
        seed: RNG_SEED.
        aspect_grouping: TRAIN.ASPECT_GROUPING.

    Raises:
        ValueError: there are no records, or batch_size is below 1.
    """

    def __init__(
        self, records: Sequence[ImageRecord], batch_size: int, seed: int, aspect_grouping: bool
    ):
        if not records or batch_size < 1:
            raise ValueError("needs at least one record and a positive batch size")
        self._batch_size = batch_size
        self._seed = seed
        self._num_records = len(records)
        wide = np.array([record.width >= record.height for record in records])
        if not aspect_grouping:
            wide[:] = True
        self._groups = (np.nonzero(wide)[0], np.nonzero(~wide)[0])
        # A minibatch may extend over two epochs; a few more are kept for the loader's threads.
        self._permutation = lru_cache(maxsize=8)(self._shuffled_group)

    def indices(self, iteration: int) -> list[int]:
        """Return the batch_size indices into the records for an iteration, from 0."""
        # Among the first i minibatches, floor(i * wide / all) belong to the wide group.
        num_wide = len(self._groups[0])
        before = iteration * num_wide // self._num_records
        is_wide = (iteration + 1) * num_wide // self._num_records > before
        group, ordinal = (0, before) if is_wide else (1, iteration - before)
        size = len(self._groups[group])
        start = ordinal * self._batch_size
        return [
            int(self._permutation(group, position // size)[position % size])
            for position in range(start, start + self._batch_size)
        ]

    def _shuffled_group(self, group: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self._seed, group, epoch))
        return rng.permutation(self._groups[group])
