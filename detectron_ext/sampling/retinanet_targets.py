"""What each RetinaNet anchor should predict (Lin et al., ICCV 2017, section 4).

An anchor is positive for the ground-truth box it overlaps most when that overlap reaches
RETINANET.POSITIVE_OVERLAP, negative below NEGATIVE_OVERLAP, and ignored between. The anchors that
overlap a ground-truth box more than all other anchors do are positive too, unless they fall below
NEGATIVE_OVERLAP, where the negative label wins (Detectron's rule).
"""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.anchors import AnchorGrids, retinanet_anchor_levels
from detectron_ext.geometry.boxes import encode
from detectron_ext.sampling.matching import covered_fraction, match_boxes

IGNORED = -1
BACKGROUND = 0


def pyramid_levels(config) -> range:
    """The pyramid levels that the RetinaNet heads run on, finest first."""
    return range(config.FPN.RPN_MIN_LEVEL, config.FPN.RPN_MAX_LEVEL + 1)


def input_blob_names(config) -> list:
    """Names of the target blobs that the training net reads, besides data and im_info."""
    names = ["retnet_fg_num", "retnet_bg_num"]
    for level in pyramid_levels(config):
        names += [
            f"retnet_cls_labels_fpn{level}",
            f"retnet_roi_bbox_targets_fpn{level}",
            f"retnet_roi_fg_bbox_locs_fpn{level}",
        ]
    return names


def assign_anchors(anchors: np.ndarray, boxes: np.ndarray, classes: np.ndarray, config):
    """Label anchors against the ground truth of one image.

    Args:
        anchors: (K, 4) float32.
        boxes: (G, 4) float32 ground-truth boxes, crowds excluded; G may be 0.
        classes: (G,) int32, 1-based.

    Returns:
        labels: (K,) int32: class number, 0 background, -1 ignored.
        matched: (K,) int64: the ground-truth box each anchor overlaps most (0 when G is 0).
        overlaps: (K,) float32: that overlap.
    """
    matched, overlaps, is_best = match_boxes(anchors, boxes)
    labels = np.full(len(anchors), IGNORED, dtype=np.int32)
    positive = is_best | (overlaps >= config.RETINANET.POSITIVE_OVERLAP)
    labels[positive] = classes[matched[positive]]
    labels[overlaps < config.RETINANET.NEGATIVE_OVERLAP] = BACKGROUND
    return labels, matched, overlaps


class RetinanetTargets:
    """Builds the target blobs of a minibatch; thread-safe."""

    def __init__(self, config):
        self._config = config
        self._grids = AnchorGrids(retinanet_anchor_levels(config))

    def __call__(self, samples, height: int, width: int) -> dict:
        """Target blobs for images padded to height x width pixels.

        Args:
            samples: objects with ``boxes`` (G, 4), ``classes`` (G,), ``is_crowd`` (G,), in the
                pixels of the network input.

        Returns:
            For every level l: retnet_cls_labels_fpn{l} (N, A, H, W) int32,
            retnet_roi_bbox_targets_fpn{l} (M, 4) float32 and retnet_roi_fg_bbox_locs_fpn{l} (M, 4)
            float32 rows (image, first channel, y, x); retnet_fg_num and retnet_bg_num (1,).
        """
        levels = self._level_anchors(height, width)
        flat = np.concatenate([anchors.reshape(-1, 4) for anchors in levels.values()])
        per_image = [self._image_targets(flat, sample) for sample in samples]
        blobs = {}
        start = 0
        for level, anchors in levels.items():
            stop = start + anchors.size // 4
            parts = [[part[start:stop] for part in image] for image in per_image]
            blobs.update(self._level_blobs(level, anchors.shape[:3], parts))
            start = stop
        blobs.update(self._counts([labels for labels, _ in per_image]))
        return blobs

    def _level_anchors(self, height: int, width: int) -> dict:
        return dict(zip(pyramid_levels(self._config), self._grids(height, width)[1]))

    def _image_targets(self, anchors: np.ndarray, sample) -> tuple:
        real = ~sample.is_crowd
        boxes, classes = sample.boxes[real], sample.classes[real]
        labels, matched, overlaps = assign_anchors(anchors, boxes, classes, self._config)
        # Detectron takes anchors in crowds for background. Objects that a random crop cut to a
        # sliver are marked as crowds too, and those are no background.
        crowds = sample.boxes[sample.is_crowd]
        if len(crowds) and self._config.LIBRA.AUGMENTATION.CROP:
            background = np.flatnonzero(labels == BACKGROUND)
            covered = covered_fraction(anchors[background], crowds)
            labels[background[covered > self._config.TRAIN.CROWD_FILTER_THRESH]] = IGNORED
        targets = np.zeros((len(anchors), 4), dtype=np.float32)
        positive = labels > BACKGROUND
        targets[positive] = encode(anchors[positive], boxes[matched[positive]])
        return labels, targets

    def _level_blobs(self, level: int, shape: tuple, parts: list) -> dict:
        labels = np.stack([image_labels.reshape(shape) for image_labels, _ in parts])
        targets = np.stack([image_targets.reshape(shape + (4,)) for _, image_targets in parts])
        image, anchor, y, x = np.nonzero(labels > BACKGROUND)
        channel = 4 * anchor
        if self._config.RETINANET.CLASS_SPECIFIC_BBOX:
            num_foreground = self._config.MODEL.NUM_CLASSES - 1
            channel = 4 * (num_foreground * anchor + labels[image, anchor, y, x] - 1)
        locations = np.stack((image, channel, y, x), axis=1).astype(np.float32)
        return {
            f"retnet_cls_labels_fpn{level}": labels,
            f"retnet_roi_bbox_targets_fpn{level}": targets[image, anchor, y, x],
            f"retnet_roi_fg_bbox_locs_fpn{level}": locations,
        }

    def _counts(self, labels: list) -> dict:
        """Loss normalisers: Detectron counts one extra positive and negative for each image."""
        num_classes = self._config.MODEL.NUM_CLASSES
        foreground = sum(float((image > BACKGROUND).sum()) + 1 for image in labels)
        background = sum(float((image == BACKGROUND).sum()) + 1 for image in labels)
        background = background * (num_classes - 1) + foreground * (num_classes - 2)
        return {
            "retnet_fg_num": np.array([foreground], dtype=np.float32),
            "retnet_bg_num": np.array([background], dtype=np.float32),
        }
