"""What each RetinaNet anchor should predict (Lin et al., ICCV 2017, section 4).

An anchor belongs to the ground-truth box that it overlaps most. It is positive if that IoU is at
least RETINANET.POSITIVE_OVERLAP, negative below NEGATIVE_OVERLAP, and ignored between. The best
anchors of each ground-truth box are positive, too, unless their IoU is below NEGATIVE_OVERLAP: then
they are negative, as in Detectron. LIBRA.RETINANET_SAMPLER decides which negatives are kept and how
much each counts.

The losses are divided by retnet_fg_num. Learning rates and loss weights were chosen for Detectron's
number, so it is counted as there:

- The best anchors of each ground-truth box count even if they are negative. This happens for small
  or thin objects.
- It is counted before RETINANET_SAMPLER is applied. A sampler can therefore change which anchors
  are trained, but not the scale of the losses. A mode that decides which anchors are positive
  (``assigns``) is the exception: its positives are counted.

Difference: Detectron's grid of anchors is a square with sides of TRAIN.MAX_SIZE. Its anchors beyond
the padded image are not counted here. Nearly all of them only add to retnet_bg_num, which is only
logged. They add to retnet_fg_num only if an object that is smaller than the smallest anchors
touches the right or lower edge of the padded image.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.config import ignores_crowd_anchors
from detectron_ext.config.settings import Settings
from detectron_ext.geometry.anchors import AnchorGrids, pyramid_levels, retinanet_anchor_levels
from detectron_ext.geometry.boxes import encode
from detectron_ext.sampling.matching import (
    BACKGROUND,
    IGNORED,
    GroundTruthImage,
    lies_in_crowd,
    match_boxes,
)
from detectron_ext.sampling.negative_weights import (
    NEGATIVES_SEED,
    check_number_of_bins,
    group_codes,
    negative_bins,
    shuffles_bins,
    shuffles_negatives,
    weighs_negatives,
)
from detectron_ext.sampling.positive_weights import NO_WEIGHTS
from detectron_ext.sampling.retinanet_sampler import (
    MODES,
    AnchorImage,
    SampledAnchors,
    checked_anchors,
    mode_assigns,
    mode_weighs,
    negative_limit,
)
from detectron_ext.sampling.sampling_statistics import count_samples, counts_blob

SAMPLER = "retinanet"
WEIGHTS_SEED = "retnet_weights_seed"
"""Blob with the seed of LIBRA.RETINANET_WEIGHTS.SHUFFLED, (1,) int32."""

# Upstream's loader takes no int64 blobs.
_SEEDS = 2**31


def weighs_by_predictions(config: Settings) -> bool:
    """Return whether weights of anchors depend on predictions, so that the net makes them."""
    settings = config.LIBRA.RETINANET_WEIGHTS
    return settings.POSITIVE != NO_WEIGHTS or settings.BOX != NO_WEIGHTS


def deltas_per_anchor(config: Settings) -> int:
    """Return the number of channels that an anchor has in the map of predicted deltas."""
    return 4 * (config.MODEL.NUM_CLASSES - 1 if config.RETINANET.CLASS_SPECIFIC_BBOX else 1)


def own_blob_names(config: Settings) -> list[str]:
    """Return the blobs of `RetinanetTargets` that Detectron's loader does not make.

    sampling_counts_retinanet, which is only logged, is not among them.
    """
    levels = pyramid_levels(config)
    names = []
    if mode_weighs(config):
        names += [f"retnet_cls_weights_fpn{level}" for level in levels]
    if weighs_by_predictions(config):
        names += [f"retnet_positive_objects_fpn{level}" for level in levels]
        names += [WEIGHTS_SEED] if config.LIBRA.RETINANET_WEIGHTS.SHUFFLED else []
    if weighs_negatives(config):
        names += [f"retnet_negative_bins_fpn{level}" for level in levels]
        names += [NEGATIVES_SEED] if shuffles_bins(config) else []
    return names


def _drawn_seeds(config: Settings) -> list[str]:
    names = own_blob_names(config)
    return [seed for seed in (WEIGHTS_SEED, NEGATIVES_SEED) if seed in names]


def assign_anchors(
    anchors: np.ndarray, sample: GroundTruthImage, config: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Label anchors by the ground truth of one image.

    Anchors in crowds are background, as in Detectron. With LIBRA.IGNORE_CROWD_ANCHORS or
    LIBRA.AUGMENTATION.CROP they are ignored; a crop marks objects that it cuts to a small part as
    crowds.

    Args:
        anchors: (K, 4) float32 rows (x1, y1, x2, y2) in pixels of the network's input.
        sample: the image.
        config: RETINANET.POSITIVE_OVERLAP and NEGATIVE_OVERLAP, and the settings of
            `ignores_crowd_anchors` are used.

    Returns:
        labels: (K,) int32: class number, 0 for background, -1 for ignored.
        matched: (K,) int64, the box without crowds that each anchor overlaps most; 0 if there is
            none.
        overlaps: (K,) float32, the IoU with that box.
        num_foreground: number of positives for retnet_fg_num, including the best anchors that are
            labelled as background.
    """
    real = ~sample.is_crowd
    matched, overlaps, is_best = match_boxes(anchors, sample.boxes[real])
    labels = np.full(len(anchors), IGNORED, dtype=np.int32)
    positive = is_best | (overlaps >= config.RETINANET.POSITIVE_OVERLAP)
    labels[positive] = sample.classes[real][matched[positive]]
    labels[overlaps < config.RETINANET.NEGATIVE_OVERLAP] = BACKGROUND
    _ignore_crowds(labels, anchors, sample, config)
    return labels, matched, overlaps, int(np.count_nonzero(positive))


def _ignore_crowds(
    labels: np.ndarray, anchors: np.ndarray, sample: GroundTruthImage, config: Settings
) -> None:
    """Label background anchors in crowds as ignored, in place, if the configuration says so."""
    if not (ignores_crowd_anchors(config) and sample.is_crowd.any()):
        return
    background = np.flatnonzero(labels == BACKGROUND)
    crowds, threshold = sample.boxes[sample.is_crowd], config.TRAIN.CROWD_FILTER_THRESH
    labels[background[lies_in_crowd(anchors[background], crowds, threshold)]] = IGNORED


class Assignment(NamedTuple):
    """What the K anchors of one image are, before negatives are drawn or weighted.

    Attributes:
        labels: (K,) int32: class number, 0 for background, -1 for ignored.
        matched: (K,) int64, the box without crowds that a positive belongs to.
        overlaps: (K,) float32, the IoU of each anchor with the box that it overlaps most.
        num_foreground: number of positives that the losses are divided by.
    """

    labels: np.ndarray
    matched: np.ndarray
    overlaps: np.ndarray
    num_foreground: int


class _ImageTargets(NamedTuple):
    """What the K anchors of one image should predict.

    Attributes:
        labels: (K,) int32, after the sampler.
        box_targets: (K, 4) float32 regression targets of positives, 0 for the others.
        weights: (K,) float32, or None if all anchors count the same.
        matched: (K,) int64, the ground-truth box without crowds that each positive belongs to.
        num_instances: number of these boxes.
        counts: result of `sampling_statistics.count_samples`.
        num_foreground: number of positives that losses are divided by.
        num_background: number of negatives before the sampler.
        negative_bins: (K,) int32, see `negative_weights`; None if negatives are not weighted.
    """

    labels: np.ndarray
    box_targets: np.ndarray
    weights: np.ndarray | None
    matched: np.ndarray
    num_instances: int
    counts: np.ndarray
    num_foreground: int
    num_background: int
    negative_bins: np.ndarray | None


def _flat(levels: dict[int, np.ndarray]) -> np.ndarray:
    """Return the anchors (K, 4) of all levels, one level after the other."""
    return np.concatenate([level.reshape(-1, 4) for level in levels.values()])


class RetinanetTargets:
    """Builds the target blobs of a minibatch; thread-safe if the mode of the sampler is.

    Args:
        config: RETINANET, FPN's levels, LIBRA.RETINANET_SAMPLER, RETINANET_WEIGHTS,
            RETINANET_NEGATIVES and the settings of `ignores_crowd_anchors` are used.

    Raises:
        ConfigError: LIBRA.RETINANET_SAMPLER.MODE does not exist, or cannot use its settings; or
            there are too many bins, see `check_number_of_bins`.
    """

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._grids = AnchorGrids(retinanet_anchor_levels(config))
        self._mode = config.LIBRA.RETINANET_SAMPLER.MODE
        self._sampler = MODES.choose(self._mode)(config)
        self._assigns = mode_assigns(config)
        self._negative_limit = negative_limit(config)
        self._num_bins = config.LIBRA.RETINANET_SAMPLER.NUM_BINS
        if weighs_negatives(config):
            check_number_of_bins(config)

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
            rng: source of the sampler's draws.

        Returns:
            For every level l with A anchors at each of H x W positions:

            - retnet_cls_labels_fpn{l}: (N, A, H, W) int32: class number, 0 for background, -1 for
              ignored.
            - retnet_roi_bbox_targets_fpn{l}: (M, 4) float32, dx, dy, dw, dh of the M positives.
            - retnet_roi_fg_bbox_locs_fpn{l}: (M, 4) float32 rows (image, first channel, y, x).
            - retnet_cls_weights_fpn{l}: (N, A, H, W) float32, only if the mode returns weights.
            - retnet_positive_objects_fpn{l}: (M, 3) int32 rows (image, ground-truth box, class) of
              the M positives, only if weights depend on predictions. Boxes are numbered over the
              whole minibatch.
            - retnet_negative_bins_fpn{l}: (N, A, H, W) int32, only if negatives are weighted: the
              bin of each negative, from 1, or the number of `group_codes`; 0 for other anchors.

            retnet_weights_seed: (1,) int32, only if the weights of positives are shuffled.
            retnet_negatives_seed: (1,) int32, only if the bins of negatives are shuffled.
            retnet_fg_num and retnet_bg_num: (1,) float32. sampling_counts_retinanet: in the layout
            of `sampling_statistics`.

        Raises:
            ConfigError: the mode returns a wrong result, see `checked_anchors`.
        """
        levels = self._level_anchors(height, width)
        flat = _flat(levels)
        images = [self._image_targets(flat, levels, sample, rng) for sample in samples]
        blobs = self._normalisers(images)
        blobs[counts_blob(SAMPLER)] = np.sum([image.counts for image in images], axis=0)
        # Drawn after the draws of the mode, so that a control trains on the same anchors.
        for seed in _drawn_seeds(self._config):
            blobs[seed] = np.array([rng.integers(_SEEDS)], dtype=np.int32)
        if shuffles_negatives(self._config):
            images = [self._exchanged(image, rng) for image in images]
        start = 0
        for level, anchors in levels.items():
            stop = start + anchors.size // 4
            blobs.update(self._level_blobs(level, anchors.shape[:3], images, slice(start, stop)))
            start = stop
        return blobs

    def _exchanged(self, image: _ImageTargets, rng: np.random.Generator) -> _ImageTargets:
        assert image.negative_bins is not None
        codes = group_codes(image.negative_bins, self._num_bins, rng)
        return image._replace(negative_bins=codes)

    def _level_anchors(self, height: int, width: int) -> dict:
        return dict(zip(pyramid_levels(self._config), self._grids(height, width)[1]))

    def assignment(
        self, sample: GroundTruthImage, height: int, width: int, rng: np.random.Generator
    ) -> Assignment:
        """Return what the anchors of an image are, before negatives are drawn or weighted.

        The arguments are those of a call, for one image.

        Raises:
            ConfigError: the mode returns a wrong result, see `checked_anchors`.
        """
        levels = self._level_anchors(height, width)
        if not self._assigns:
            return Assignment(*assign_anchors(_flat(levels), sample, self._config))
        return self._assigned(_flat(levels), levels, sample, rng)[0]

    def _assigned(
        self,
        anchors: np.ndarray,
        levels: dict[int, np.ndarray],
        sample: GroundTruthImage,
        rng: np.random.Generator,
    ) -> tuple[Assignment, SampledAnchors]:
        """Return what the anchors are before the mode draws or weighs, and what it returns."""
        assignment = Assignment(*assign_anchors(anchors, sample, self._config))
        labels, matched, overlaps, _ = assignment
        real = ~sample.is_crowd
        shapes: dict = {level: grid.shape[:3] for level, grid in levels.items()}
        image = AnchorImage(
            anchors, labels, overlaps, matched, sample.boxes[real], sample.classes[real], rng,
            shapes,
        )  # fmt: skip
        num_classes = self._config.MODEL.NUM_CLASSES
        sampled = checked_anchors(self._sampler(image), image, num_classes, self._mode)
        if sampled.matched is not None:
            matched = sampled.matched
        if self._assigns:
            labels = sampled.labels.copy()
            _ignore_crowds(labels, anchors, sample, self._config)
            sampled = sampled._replace(labels=labels)
            num_foreground = int(np.count_nonzero(labels > BACKGROUND))
            assignment = Assignment(labels, matched, overlaps, num_foreground)
        return assignment, sampled

    def _image_targets(
        self,
        anchors: np.ndarray,
        levels: dict[int, np.ndarray],
        sample: GroundTruthImage,
        rng: np.random.Generator,
    ) -> _ImageTargets:
        assignment, (labels, weights, new_matches) = self._assigned(anchors, levels, sample, rng)
        matched = assignment.matched if new_matches is None else new_matches
        num_background = int(np.count_nonzero(assignment.labels == BACKGROUND))
        boxes, overlaps = sample.boxes[~sample.is_crowd], assignment.overlaps
        targets = np.zeros((len(anchors), 4), dtype=np.float32)
        positive = np.flatnonzero(labels > BACKGROUND)
        targets[positive] = encode(anchors[positive], boxes[matched[positive]])
        negative = np.flatnonzero(labels == BACKGROUND)
        counts = count_samples(
            overlaps[negative],
            matched[positive],
            len(boxes),
            upper=self._negative_limit,
            num_bins=self._num_bins,
            floor_thresh=getattr(self._sampler, "floor_thresh", 0.0),
            weights=None if weights is None else weights[negative],
        )
        bins = None
        if weighs_negatives(self._config):
            bins = negative_bins(
                labels, overlaps, upper=self._negative_limit, num_bins=self._num_bins
            )
        return _ImageTargets(
            labels,
            targets,
            weights,
            matched,
            len(boxes),
            counts,
            assignment.num_foreground,
            num_background,
            bins,
        )

    def _level_blobs(self, level: int, shape: tuple, images: list, rows: slice) -> dict:
        labels = np.stack([image.labels[rows].reshape(shape) for image in images])
        targets = np.stack([image.box_targets[rows].reshape(shape + (4,)) for image in images])
        image, anchor, y, x = np.nonzero(labels > BACKGROUND)
        classes = labels[image, anchor, y, x]
        channel = deltas_per_anchor(self._config) * anchor
        if self._config.RETINANET.CLASS_SPECIFIC_BBOX:
            channel += 4 * (classes - 1)
        locations = np.stack((image, channel, y, x), axis=1).astype(np.float32)
        blobs = {
            f"retnet_cls_labels_fpn{level}": labels,
            f"retnet_roi_bbox_targets_fpn{level}": targets[image, anchor, y, x],
            f"retnet_roi_fg_bbox_locs_fpn{level}": locations,
        }
        if MODES[self._mode].weighs:
            weights = np.stack([image.weights[rows].reshape(shape) for image in images])
            blobs[f"retnet_cls_weights_fpn{level}"] = weights
        if weighs_negatives(self._config):
            bins = np.stack([image.negative_bins[rows].reshape(shape) for image in images])
            blobs[f"retnet_negative_bins_fpn{level}"] = bins
        if weighs_by_predictions(self._config):
            first = np.cumsum([0, *(image.num_instances for image in images)])
            matched = np.stack([image.matched[rows].reshape(shape) for image in images])
            instance = first[image] + matched[image, anchor, y, x]
            objects = np.stack((image, instance, classes), axis=1).astype(np.int32)
            blobs[f"retnet_positive_objects_fpn{level}"] = objects
        return blobs

    def _normalisers(self, images: list) -> dict:
        """Return the numbers that losses are divided by, counted as in Detectron.

        Detectron counts one positive and one negative more than there are in each image.
        """
        num_classes = self._config.MODEL.NUM_CLASSES
        foreground = sum(image.num_foreground + 1 for image in images)
        background = sum(image.num_background + 1 for image in images)
        background = background * (num_classes - 1) + foreground * (num_classes - 2)
        return {
            "retnet_fg_num": np.array([foreground], dtype=np.float32),
            "retnet_bg_num": np.array([background], dtype=np.float32),
        }
