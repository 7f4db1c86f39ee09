"""What each anchor of the RPN should predict (Ren et al., "Faster R-CNN", section 3.1.2).

The rules and the names of the blobs are Detectron's. Two accidents of Detectron's code are not
kept. Here negatives are drawn without replacement. The best anchor of an object is positive, and
here it is never drawn as a negative, too.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.config import ignores_crowd_anchors
from detectron_ext.config.settings import Settings
from detectron_ext.geometry.anchors import AnchorGrids, rpn_anchor_levels
from detectron_ext.geometry.boxes import encode
from detectron_ext.sampling.box_sampler import BoxSampler
from detectron_ext.sampling.matching import (
    BACKGROUND,
    IGNORED,
    GroundTruthImage,
    lies_in_crowd,
    match_boxes,
)
from detectron_ext.sampling.sampling_statistics import counts_blob

SAMPLER = "rpn"
_OBJECT = 1


def divides_by_drawn(config: Settings) -> bool:
    """Return whether the RPN's losses are divided by the number of anchors that were drawn.

    LIBRA.SAMPLER.RPN_NORMALISER tells it. Otherwise the class loss on a pyramid is divided by the
    number that should be drawn.
    """
    settings = config.LIBRA.SAMPLER
    if settings.RPN_NORMALISER == "auto":
        return settings.RPN_NEG_POS_UB >= 0
    return settings.RPN_NORMALISER == "drawn"


class _SampledAnchors(NamedTuple):
    """The S sampled anchors of one image or of all images. All other anchors are ignored.

    Attributes:
        image: (S,) int64, number of the image.
        anchor: (S,) int64, index into the anchors of all levels.
        label: (S,) int32, 1 for positive, 0 for negative.
        targets: (S, 4) float32 regression targets, 0 for negatives.
        weight: (S,) float32, 1 / (number of anchors sampled in the image), or 1 if the net divides
            by the number of all anchors that were sampled (`divides_by_drawn`).
    """

    image: np.ndarray
    anchor: np.ndarray
    label: np.ndarray
    targets: np.ndarray
    weight: np.ndarray


class RpnTargets:
    """Builds the RPN's target blobs of a minibatch; thread-safe.

    Args:
        config: RPN or FPN (for the anchors), TRAIN.RPN_*, LIBRA.SAMPLER and
            the settings of `ignores_crowd_anchors` are used.
    """

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._grids = AnchorGrids(rpn_anchor_levels(config))
        settings = config.LIBRA.SAMPLER
        threshold = config.TRAIN.RPN_NEGATIVE_OVERLAP
        self._sampler = BoxSampler(settings, threshold, is_random=not settings.RPN)

    def __call__(
        self,
        samples: Sequence[GroundTruthImage],
        height: int,
        width: int,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """Make the target blobs of images.

        Args:
            samples: the N images.
            height: rows of the padded images, in pixels.
            width: columns of the padded images, in pixels.
            rng: source of every draw.

        Returns:
            For every level, whose suffix ``_fpn<l>`` the names have on a pyramid:

            - rpn_labels_int32_wide: (N, A, H, W) int32: 1 for positive, 0 for negative, -1 for
              ignored.
            - rpn_bbox_targets_wide: (N, 4 * A, H, W) float32.
            - rpn_bbox_inside_weights_wide: (N, 4 * A, H, W) float32, 1 for positives.
            - rpn_bbox_outside_weights_wide: (N, 4 * A, H, W) float32, for sampled anchors
              1 / (number of anchors sampled in the image), or 1 if the net divides by the number
              of all anchors that were sampled (`divides_by_drawn`).

            H and W are height and width divided by the stride of the level, rounded up. Also
            sampling_counts_rpn, in the layout of `sampling_statistics`.

        Raises:
            ConfigError: a sampler of LIBRA.SAMPLER returns a wrong result, see `BoxSampler`.
        """
        anchors, grids = self._grids(height, width)
        images = [self._sample_image(n, image, anchors, rng) for n, image in enumerate(samples)]
        sampled = _SampledAnchors(*map(np.concatenate, zip(*(image for image, _ in images))))
        blobs = {counts_blob(SAMPLER): np.sum([counts for _, counts in images], axis=0)}
        start = 0
        for level, grid in zip(self._grids.levels, grids):
            stop = start + grid.size // 4
            here = (sampled.anchor >= start) & (sampled.anchor < stop)
            on_level = _SampledAnchors(*(part[here] for part in sampled))
            on_level = on_level._replace(anchor=on_level.anchor - start)
            blobs.update(_level_blobs(level.suffix, grid.shape[:3], len(images), on_level))
            start = stop
        return blobs

    def _sample_image(
        self, index: int, sample: GroundTruthImage, anchors: np.ndarray, rng: np.random.Generator
    ) -> tuple[_SampledAnchors, np.ndarray]:
        """Return the sampled anchors of one image, and their counts for the training log."""
        usable = self._usable_anchors(anchors, *sample.image.shape[:2])
        boxes = anchors[usable]
        truth = sample.boxes[~sample.is_crowd]
        matched, overlaps, is_best = match_boxes(boxes, truth)
        positive, negative = self._candidates(boxes, overlaps, is_best, sample)
        settings = self._config.TRAIN
        most = int(settings.RPN_FG_FRACTION * settings.RPN_BATCH_SIZE_PER_IM)
        positive = self._sampler.positives(matched, positive, most, rng)
        count = self._num_negatives(len(positive))
        negative = self._sampler.negatives(overlaps, negative, count, rng)
        chosen = np.concatenate((positive, negative))
        total = len(chosen)
        label = np.full(total, BACKGROUND, dtype=np.int32)
        label[: len(positive)] = _OBJECT
        targets = np.zeros((total, 4), dtype=np.float32)
        targets[: len(positive)] = encode(boxes[positive], truth[matched[positive]])
        of_one = 1.0 if divides_by_drawn(self._config) else 1.0 / max(1, total)
        weight = np.full(total, of_one, dtype=np.float32)
        counts = self._sampler.counts(overlaps, matched, positive, negative, len(truth))
        image = np.full(total, index)
        return _SampledAnchors(image, usable[chosen], label, targets, weight), counts

    def _usable_anchors(self, anchors: np.ndarray, height: int, width: int) -> np.ndarray:
        """Return the indices of anchors that exceed the image by at most RPN_STRADDLE_THRESH."""
        margin = self._config.TRAIN.RPN_STRADDLE_THRESH
        if margin < 0:
            return np.arange(len(anchors))
        starts_inside = (anchors[:, 0] >= -margin) & (anchors[:, 1] >= -margin)
        ends_inside = (anchors[:, 2] < width + margin) & (anchors[:, 3] < height + margin)
        return np.flatnonzero(starts_inside & ends_inside)

    def _candidates(
        self, boxes: np.ndarray, overlaps: np.ndarray, is_best: np.ndarray, sample: GroundTruthImage
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the positives and of the negatives to draw from."""
        settings = self._config.TRAIN
        is_positive = is_best | (overlaps >= settings.RPN_POSITIVE_OVERLAP)
        negative = np.flatnonzero(~is_positive & (overlaps < settings.RPN_NEGATIVE_OVERLAP))
        if ignores_crowd_anchors(self._config) and sample.is_crowd.any():
            crowds = sample.boxes[sample.is_crowd]
            crowded = lies_in_crowd(boxes[negative], crowds, settings.CROWD_FILTER_THRESH)
            negative = negative[~crowded]
        return np.flatnonzero(is_positive), negative

    def _num_negatives(self, num_positives: int) -> int:
        count = self._config.TRAIN.RPN_BATCH_SIZE_PER_IM - num_positives
        per_positive = self._config.LIBRA.SAMPLER.RPN_NEG_POS_UB
        if per_positive < 0:
            return count
        return min(count, int(per_positive * max(1, num_positives)))


def _level_blobs(suffix: str, grid: tuple, num_images: int, sampled: _SampledAnchors) -> dict:
    """Make the blobs of one level.

    Args:
        suffix: suffix of the level's blobs.
        grid: (A, H, W), the shape of the level's anchors.
        num_images: number N of images.
        sampled: the sampled anchors of the level; their indices begin at the level's first anchor.
    """
    anchor, y, x = np.unravel_index(sampled.anchor, grid)
    labels = np.full((num_images,) + grid, IGNORED, dtype=np.int32)
    labels[sampled.image, anchor, y, x] = sampled.label
    blobs: dict = {f"rpn_labels_int32_wide{suffix}": labels}
    for kind, values in (
        ("targets", sampled.targets),
        ("inside_weights", (sampled.label == _OBJECT)[:, None]),
        ("outside_weights", sampled.weight[:, None]),
    ):
        num_anchors, height, width = grid
        blob = np.zeros((num_images, num_anchors, 4, height, width), dtype=np.float32)
        blob[sampled.image, anchor, :, y, x] = values
        blobs[f"rpn_bbox_{kind}_wide{suffix}"] = blob.reshape(num_images, -1, height, width)
    return blobs
