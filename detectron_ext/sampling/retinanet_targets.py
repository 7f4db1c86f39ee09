"""What each RetinaNet anchor should predict (Lin et al., ICCV 2017, section 4).

An anchor is positive for the ground-truth box it overlaps most when that overlap reaches
RETINANET.POSITIVE_OVERLAP, negative below NEGATIVE_OVERLAP, and ignored between. The anchors that
overlap a ground-truth box more than all other anchors do are positive too, unless they fall below
NEGATIVE_OVERLAP, where the negative label wins (Detectron's rule). LIBRA.RETINANET_SAMPLER says
which negatives stay and how much each counts.

Losses are divided by retnet_fg_num, which counts as Detectron does, since learning rates and loss
weights were chosen with its number: before the negative label wins, so that the best anchors of a
small or thin object count although they train as background, and before RETINANET_SAMPLER, which
is thus free to change what trains but not the scale of the losses. Detectron's grid of anchors is a
square of TRAIN.MAX_SIZE; the anchors of it that lie beyond the padded image are not counted here.
They add to retnet_bg_num, which is only logged, and to retnet_fg_num only where an object that is
smaller than the smallest anchors touches the right or lower edge of the padded image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectron_ext.errors import ConfigError
from detectron_ext.geometry.anchors import AnchorGrids, pyramid_levels, retinanet_anchor_levels
from detectron_ext.geometry.boxes import encode
from detectron_ext.sampling.matching import BACKGROUND, IGNORED, lies_in_crowd, match_boxes
from detectron_ext.sampling.retinanet_sampler import MODES, AnchorImage
from detectron_ext.sampling.sampling_statistics import count_samples, counts_blob

SAMPLER = "retinanet"


def assign_anchors(anchors: np.ndarray, sample, config):
    """Label anchors against the ground truth of one image.

    Detectron takes anchors in crowds for background. With LIBRA.AUGMENTATION.CROP objects that a
    crop cut to a sliver are marked as crowds too, and those are no background: they are ignored.

    Args:
        anchors: (K, 4) float32.
        sample: has ``boxes`` (G, 4) float32, ``classes`` (G,) int32, 1-based, and ``is_crowd`` (G,)
            bool; G may be 0.

    Returns:
        labels: (K,) int32: class number, 0 background, -1 ignored.
        matched: (K,) int64: of the boxes that are no crowds, the one each anchor overlaps most (0
            when there is none).
        overlaps: (K,) float32: that overlap.
        num_foreground: positives for retnet_fg_num, with those that the negative label overrules.
    """
    real = ~sample.is_crowd
    matched, overlaps, is_best = match_boxes(anchors, sample.boxes[real])
    labels = np.full(len(anchors), IGNORED, dtype=np.int32)
    positive = is_best | (overlaps >= config.RETINANET.POSITIVE_OVERLAP)
    labels[positive] = sample.classes[real][matched[positive]]
    labels[overlaps < config.RETINANET.NEGATIVE_OVERLAP] = BACKGROUND
    if config.LIBRA.AUGMENTATION.CROP and sample.is_crowd.any():
        background = np.flatnonzero(labels == BACKGROUND)
        crowds, threshold = sample.boxes[sample.is_crowd], config.TRAIN.CROWD_FILTER_THRESH
        labels[background[lies_in_crowd(anchors[background], crowds, threshold)]] = IGNORED
    return labels, matched, overlaps, int(np.count_nonzero(positive))


class _ImageTargets(NamedTuple):
    """What the K anchors of one image should predict.

    labels: (K,) int32. box_targets: (K, 4) float32, zeros but for positives. weights: (K,) float32,
    or None when all anchors count the same. counts: `sampling_statistics.count_samples`.
    num_foreground, num_background: how many there are for the normalisers.
    """

    labels: np.ndarray
    box_targets: np.ndarray
    weights: np.ndarray | None
    counts: np.ndarray
    num_foreground: int
    num_background: int


class RetinanetTargets:
    """Builds the target blobs of a minibatch; thread-safe if the sampler's mode is.

    Args:
        config: the anchors' settings, RETINANET.POSITIVE_OVERLAP and NEGATIVE_OVERLAP,
            LIBRA.RETINANET_SAMPLER, LIBRA.AUGMENTATION.CROP.

    Raises:
        ConfigError: there is no such LIBRA.RETINANET_SAMPLER.MODE, or its settings do not suit it.
    """

    def __init__(self, config):
        self._config = config
        self._grids = AnchorGrids(retinanet_anchor_levels(config))
        self._sampler = MODES.choose(config.LIBRA.RETINANET_SAMPLER.MODE)(config)

    def __call__(self, samples, height: int, width: int, rng: np.random.Generator) -> dict:
        """Target blobs for images padded to height x width pixels.

        Args:
            samples: objects with ``boxes`` (G, 4), ``classes`` (G,), ``is_crowd`` (G,), in the
                pixels of the network input.
            rng: source of the sampler's draws.

        Returns:
            For every level l: retnet_cls_labels_fpn{l} (N, A, H, W) int32,
            retnet_roi_bbox_targets_fpn{l} (M, 4) float32 and retnet_roi_fg_bbox_locs_fpn{l} (M, 4)
            float32 rows (image, first channel, y, x); with a MODE that weighs also
            retnet_cls_weights_fpn{l} (N, A, H, W) float32. retnet_fg_num and retnet_bg_num (1,)
            float32, sampling_counts_retinanet as `sampling_statistics` lays it out.
        """
        levels = self._level_anchors(height, width)
        flat = np.concatenate([anchors.reshape(-1, 4) for anchors in levels.values()])
        images = [self._image_targets(flat, sample, rng) for sample in samples]
        blobs = self._normalisers(images)
        blobs[counts_blob(SAMPLER)] = np.sum([image.counts for image in images], axis=0)
        start = 0
        for level, anchors in levels.items():
            stop = start + anchors.size // 4
            blobs.update(self._level_blobs(level, anchors.shape[:3], images, slice(start, stop)))
            start = stop
        return blobs

    def _level_anchors(self, height: int, width: int) -> dict:
        return dict(zip(pyramid_levels(self._config), self._grids(height, width)[1]))

    def _image_targets(self, anchors: np.ndarray, sample, rng) -> _ImageTargets:
        real = ~sample.is_crowd
        boxes = sample.boxes[real]
        labels, matched, overlaps, num_foreground = assign_anchors(anchors, sample, self._config)
        num_background = int(np.count_nonzero(labels == BACKGROUND))
        sampled = self._sampler(
            AnchorImage(anchors, labels, overlaps, matched, boxes, sample.classes[real], rng)
        )
        labels, weights = sampled.labels, sampled.weights
        if (weights is not None) != self._sampler.weighs:
            raise ConfigError(
                f"LIBRA.RETINANET_SAMPLER.MODE {self._config.LIBRA.RETINANET_SAMPLER.MODE}: its "
                f"class says weighs = {self._sampler.weighs}, but it returned "
                f"{'no ' if weights is None else ''}weights"
            )
        matched = matched if sampled.matched is None else sampled.matched
        targets = np.zeros((len(anchors), 4), dtype=np.float32)
        positive = np.flatnonzero(labels > BACKGROUND)
        targets[positive] = encode(anchors[positive], boxes[matched[positive]])
        negative = np.flatnonzero(labels == BACKGROUND)
        counts = count_samples(
            overlaps[negative],
            matched[positive],
            len(boxes),
            upper=self._config.RETINANET.NEGATIVE_OVERLAP,
            num_bins=self._config.LIBRA.RETINANET_SAMPLER.NUM_BINS,
            weights=None if weights is None else weights[negative],
        )
        return _ImageTargets(labels, targets, weights, counts, num_foreground, num_background)

    def _level_blobs(self, level: int, shape: tuple, images: list, rows: slice) -> dict:
        labels = np.stack([image.labels[rows].reshape(shape) for image in images])
        targets = np.stack([image.box_targets[rows].reshape(shape + (4,)) for image in images])
        image, anchor, y, x = np.nonzero(labels > BACKGROUND)
        channel = 4 * anchor
        if self._config.RETINANET.CLASS_SPECIFIC_BBOX:
            num_foreground = self._config.MODEL.NUM_CLASSES - 1
            channel = 4 * (num_foreground * anchor + labels[image, anchor, y, x] - 1)
        locations = np.stack((image, channel, y, x), axis=1).astype(np.float32)
        blobs = {
            f"retnet_cls_labels_fpn{level}": labels,
            f"retnet_roi_bbox_targets_fpn{level}": targets[image, anchor, y, x],
            f"retnet_roi_fg_bbox_locs_fpn{level}": locations,
        }
        if self._sampler.weighs:
            weights = np.stack([image.weights[rows].reshape(shape) for image in images])
            blobs[f"retnet_cls_weights_fpn{level}"] = weights
        return blobs

    def _normalisers(self, images: list) -> dict:
        """What losses are divided by: Detectron counts one positive and negative more an image."""
        num_classes = self._config.MODEL.NUM_CLASSES
        foreground = sum(image.num_foreground + 1 for image in images)
        background = sum(image.num_background + 1 for image in images)
        background = background * (num_classes - 1) + foreground * (num_classes - 2)
        return {
            "retnet_fg_num": np.array([foreground], dtype=np.float32),
            "retnet_bg_num": np.array([background], dtype=np.float32),
        }
