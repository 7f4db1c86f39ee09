"""How well the anchors fit the ground truth of a data set, at the scales that training draws.

A box whose best IoU with an anchor is below the negative threshold has no positive anchor in
RetinaNet: it is never trained. In an RPN its best anchor alone trains it. The numbers need the
annotations only, not the images.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.config import is_retinanet, reads_proposals
from detectron_ext.config.settings import Settings
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.transforms import MIN_VISIBLE_FRACTION, resize_scales
from detectron_ext.geometry.anchors import AnchorLevel, retinanet_anchor_levels, rpn_anchor_levels
from detectron_ext.geometry.best_anchor import best_anchor_overlaps
from detectron_ext.sampling.retinanet_sampler import mode_assigns

# Random factors on the scale are represented by this many equal steps from the lowest to the
# highest.
_NUM_FACTORS = 5
# Boxes times scales that are computed at most, about a second; the images are then thinned out.
_BUDGET = 400_000


class AnchorRules(NamedTuple):
    """A detector's anchors and when they are positive.

    Attributes:
        levels: the anchors of each feature map.
        negative: IoU below which an anchor is negative.
        positive: IoU from which an anchor is positive.
        margin: pixels by which a usable anchor may exceed the image; below 0 there is no limit.
        padded_to: images are padded to multiples of this many pixels.
    """

    levels: list[AnchorLevel]
    negative: float
    positive: float
    margin: float
    padded_to: int


class Coverage(NamedTuple):
    """Ground-truth boxes at the scale at which an anchor fits them best.

    Attributes:
        rules: the anchors.
        overlaps: (N,) float32, largest IoU with an anchor.
        sides: (N, 2) float32, width and height in network pixels at that scale.
        missed: (N,) float32, share of the scales at which the IoU is below the negative threshold.
        cut_away: (N,) bool, whether every crop shows less of the box than an object needs.
        classes: (N,) int32 class numbers, from 1.
        record: (N,) int64, index of the record.
        box: (N,) int64, index of the box in its record.
        num_boxes: number of boxes in all records; above N if images were left out.
    """

    rules: AnchorRules
    overlaps: np.ndarray
    sides: np.ndarray
    missed: np.ndarray
    cut_away: np.ndarray
    classes: np.ndarray
    record: np.ndarray
    box: np.ndarray
    num_boxes: int

    @property
    def below(self) -> np.ndarray:
        """(N,) bool, whether no anchor reaches the negative threshold at any scale."""
        return self.overlaps < self.rules.negative

    @property
    def above(self) -> np.ndarray:
        """(N,) bool, whether an anchor reaches the positive threshold at some scale."""
        return self.overlaps >= self.rules.positive


def anchor_rules(config: Settings) -> AnchorRules | None:
    """Return the anchors of a configuration.

    None for Fast R-CNN, which has none, and for a mode of RetinaNet's sampler that assigns: it does
    not use the thresholds.
    """
    if reads_proposals(config) or (is_retinanet(config) and mode_assigns(config)):
        return None
    padded_to = int(config.FPN.COARSEST_STRIDE) if config.FPN.FPN_ON else 1
    if is_retinanet(config):
        settings = config.RETINANET
        levels = retinanet_anchor_levels(config)
        return AnchorRules(
            levels, settings.NEGATIVE_OVERLAP, settings.POSITIVE_OVERLAP, -1, padded_to
        )
    train = config.TRAIN
    return AnchorRules(
        rpn_anchor_levels(config),
        train.RPN_NEGATIVE_OVERLAP,
        train.RPN_POSITIVE_OVERLAP,
        train.RPN_STRADDLE_THRESH,
        padded_to,
    )


def anchor_coverage(
    records: Sequence[ImageRecord], config: Settings, budget: int = _BUDGET
) -> Coverage | None:
    """Find the largest IoU with an anchor of every object, at the scales that training draws.

    Each of TRAIN.SCALES is tried with steps of LIBRA.AUGMENTATION.SCALE_RANGE and, with ROTATE90,
    turned. With CROP a box is cut to what the largest part of it in a crop can be, and it is no
    object where a crop shows too little of it. Mirrored records and crowds are left out.

    Args:
        records: images with their ground truth.
        config: a merged configuration.
        budget: number of boxes times scales that are computed at most. If there are more, only
            every second, third, ... image is taken.

    Returns:
        The coverage; None if `anchor_rules` are None or there is no object.
    """
    rules = anchor_rules(config)
    chosen = [n for n, record in enumerate(records) if not record.flipped]
    num_boxes = sum(int(np.count_nonzero(~records[n].is_crowd)) for n in chosen)
    if rules is None or not num_boxes:
        return None
    draws = _draws(config)
    step = -(-num_boxes * len(draws) // budget)
    objects = _Objects.of(records, chosen[::step])
    best = np.full(len(objects.boxes), -1, dtype=np.float32)
    sides = np.zeros((len(best), 2), dtype=np.float32)
    missed, cut_away = np.zeros(len(best), dtype=np.float32), np.ones(len(best), dtype=bool)
    for target, factor, turned in draws:
        boxes, heights, widths, hidden = _scaled(objects, target, factor, turned, config)
        overlaps = best_anchor_overlaps(
            boxes, heights, widths, rules.levels, rules.padded_to, rules.margin
        )
        overlaps[hidden] = 0
        better = overlaps > best
        best[better] = overlaps[better]
        sides[better] = (boxes[:, 2:] - boxes[:, :2] + 1)[better]
        missed += overlaps < rules.negative
        cut_away &= hidden
    missed /= len(draws)
    return Coverage(
        rules, best, sides, missed, cut_away, objects.classes, objects.record, objects.box,
        num_boxes,
    )  # fmt: skip


class _Objects(NamedTuple):
    """The N objects of images, in pixels of the image files.

    Attributes:
        boxes: (N, 4) float32 x1, y1, x2, y2.
        heights, widths: (N,) int64, size of the image of each box.
        classes, record, box: as of `Coverage`.
    """

    boxes: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    classes: np.ndarray
    record: np.ndarray
    box: np.ndarray

    @classmethod
    def of(cls, records: Sequence[ImageRecord], chosen: Sequence[int]) -> _Objects:
        counts = [len(records[n].boxes) for n in chosen]
        record = np.repeat(np.asarray(chosen, dtype=np.int64), counts)
        box = np.concatenate([np.arange(count) for count in counts])
        sizes = np.array([(records[n].height, records[n].width) for n in chosen], dtype=np.int64)
        heights, widths = np.repeat(sizes, counts, axis=0).T
        boxes = np.concatenate([records[n].boxes for n in chosen])
        classes = np.concatenate([records[n].classes for n in chosen])
        real = ~np.concatenate([records[n].is_crowd for n in chosen])
        return cls(*(part[real] for part in (boxes, heights, widths, classes, record, box)))


def _draws(config: Settings) -> list[tuple[float, float, bool]]:
    """Return the combinations of scale, factor and quarter turn that training draws."""
    options = config.LIBRA.AUGMENTATION
    low, high = options.SCALE_RANGE
    factors = [1.0] if low == high == 1 else np.unique(np.linspace(low, high, _NUM_FACTORS))
    turns = (False, True) if options.ROTATE90 else (False,)
    return [
        (float(target), float(factor), turned)
        for target, factor, turned in itertools.product(
            dict.fromkeys(config.TRAIN.SCALES), factors, turns
        )
    ]


def _scaled(
    objects: _Objects, target: float, factor: float, turned: bool, config: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scale boxes as :func:`detectron_ext.data.minibatch.load_sample` does, and cut them to crops.

    Returns:
        boxes: (N, 4) float32 in network pixels.
        heights, widths: (N,) float64 network pixels of the images without padding.
        hidden: (N,) bool, whether every crop shows too little of the box.
    """
    options, limit = config.LIBRA.AUGMENTATION, config.TRAIN.MAX_SIZE
    boxes, heights, widths = objects.boxes, objects.heights, objects.widths
    usual = resize_scales(heights, widths, target, limit)
    scales = usual * factor
    if not options.CROP:
        longest_allowed = float(limit) / np.maximum(heights, widths)
        scales = np.minimum(scales, np.maximum(usual, longest_allowed))
    hidden = np.zeros(len(boxes), dtype=bool)
    is_cropped = options.CROP and factor > 1
    if is_cropped:
        hidden = _too_little_in_crops(boxes, heights, widths, factor)
        # An image whose crops show no object keeps its usual scale and is not cropped.
        shows = np.zeros(int(objects.record.max()) + 1, dtype=bool)
        shows[objects.record[~hidden]] = True
        whole = ~shows[objects.record]
        scales, hidden = np.where(whole, usual, scales), hidden & ~whole
    boxes = boxes * scales[:, None].astype(np.float32)
    if is_cropped:
        window = np.stack((widths * usual, heights * usual), axis=1)
        boxes = np.where(whole[:, None], boxes, _cut_to(boxes, window))
    heights, widths = np.maximum(1, np.round((heights * scales, widths * scales)))
    if turned:
        boxes, heights, widths = boxes[:, [1, 0, 3, 2]], widths, heights
    return boxes, heights, widths, hidden


def _too_little_in_crops(
    boxes: np.ndarray, heights: np.ndarray, widths: np.ndarray, factor: float
) -> np.ndarray:
    """Return which boxes are, in a window that is 1 / factor of the image, too small a part."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    window = np.stack((widths, heights), axis=1) / factor
    visible = np.minimum(1, window / sides).prod(axis=1)
    return visible < MIN_VISIBLE_FRACTION


def _cut_to(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Shorten boxes (N, 4) to a window's width and height (N, 2) around their centres."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (np.minimum(boxes[:, 2:] - boxes[:, :2] + 1, window) - 1) / 2
    return np.concatenate((centers - half, centers + half), axis=1).astype(np.float32)
