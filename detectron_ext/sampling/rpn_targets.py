"""What each of the RPN's anchors should predict (Ren et al., "Faster R-CNN", section 3.1.2).

The rules are Detectron's, and so are the names of the blobs. Two accidents of its code are not
kept: negatives are drawn without replacement, and an anchor that is positive because no other
overlaps its object more is never drawn as a negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectron_ext.geometry.anchors import AnchorGrids, rpn_anchor_levels
from detectron_ext.geometry.boxes import encode
from detectron_ext.sampling.box_sampler import BoxSampler
from detectron_ext.sampling.matching import BACKGROUND, IGNORED, lies_in_crowd, match_boxes
from detectron_ext.sampling.sampling_statistics import counts_blob

SAMPLER = "rpn"
_OBJECT = 1


class _SampledAnchors(NamedTuple):
    """The S anchors that train, of one image or of all: everything else is ignored.

    Attributes:
        image: (S,) int64.
        anchor: (S,) int64, index into all levels' anchors.
        label: (S,) int32, 1 positive or 0 negative.
        targets: (S, 4) float32, zeros for negatives.
        weight: (S,) float32, 1 / (anchors sampled in the image).
    """

    image: np.ndarray
    anchor: np.ndarray
    label: np.ndarray
    targets: np.ndarray
    weight: np.ndarray


class RpnTargets:
    """Builds the RPN's target blobs of a minibatch; thread-safe.

    Args:
        config: the anchors' settings, TRAIN.RPN_*, TRAIN.CROWD_FILTER_THRESH, LIBRA.SAMPLER,
            LIBRA.AUGMENTATION.CROP.
    """

    def __init__(self, config):
        self._config = config
        self._grids = AnchorGrids(rpn_anchor_levels(config))
        settings = config.LIBRA.SAMPLER
        threshold = config.TRAIN.RPN_NEGATIVE_OVERLAP
        self._sampler = BoxSampler(settings, threshold, is_random=not settings.RPN)

    def __call__(self, samples, height: int, width: int, rng: np.random.Generator) -> dict:
        """Target blobs for images padded to height x width pixels.

        Args:
            samples: objects with ``image`` (rows, columns, 3), ``boxes`` (G, 4), ``is_crowd`` (G,),
                in the pixels of the network input.
            rng: source of every draw.

        Returns:
            For every level, with ``_fpn<l>`` at the end on a pyramid: rpn_labels_int32_wide
            (N, A, H, W) int32, 1 positive, 0 negative, -1 ignored; rpn_bbox_targets_wide,
            rpn_bbox_inside_weights_wide and rpn_bbox_outside_weights_wide (N, 4 * A, H, W) float32.
            H and W are the padded image's sides over the level's stride, rounded up. Inside weights
            are 1 at positives, outside weights 1 / (anchors sampled in the image) at all sampled.
            Also sampling_counts_rpn, as `sampling_statistics` lays it out.
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
        self, index: int, sample, anchors: np.ndarray, rng: np.random.Generator
    ) -> tuple[_SampledAnchors, np.ndarray]:
        """What trains in one image, and how much of it for the training log."""
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
        weight = np.full(total, 1.0 / max(1, total), dtype=np.float32)
        counts = self._sampler.counts(overlaps, matched, positive, negative, len(truth))
        image = np.full(total, index)
        return _SampledAnchors(image, usable[chosen], label, targets, weight), counts

    def _usable_anchors(self, anchors: np.ndarray, height: int, width: int) -> np.ndarray:
        """Indices of the anchors that reach at most RPN_STRADDLE_THRESH pixels out of the image."""
        margin = self._config.TRAIN.RPN_STRADDLE_THRESH
        if margin < 0:
            return np.arange(len(anchors))
        starts_inside = (anchors[:, 0] >= -margin) & (anchors[:, 1] >= -margin)
        ends_inside = (anchors[:, 2] < width + margin) & (anchors[:, 3] < height + margin)
        return np.flatnonzero(starts_inside & ends_inside)

    def _candidates(self, boxes, overlaps, is_best, sample) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the positives and of the negatives to draw from."""
        settings = self._config.TRAIN
        is_positive = is_best | (overlaps >= settings.RPN_POSITIVE_OVERLAP)
        negative = np.flatnonzero(~is_positive & (overlaps < settings.RPN_NEGATIVE_OVERLAP))
        # Detectron takes anchors in crowds for background. Objects that a random crop cut to a
        # sliver are marked as crowds too, and those are no background.
        if self._config.LIBRA.AUGMENTATION.CROP and sample.is_crowd.any():
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
    """Blobs of one level of (A, H, W) anchors; ``sampled.anchor`` counts from its first."""
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
