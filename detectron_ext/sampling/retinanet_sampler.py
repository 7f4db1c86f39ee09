"""RetinaNet's sampler: which anchors train, and how much each counts.

RetinaNet draws no samples; the focal loss weighs all anchors by how wrong they are. Two modes carry
the idea of IoU-balanced negatives (Pang et al., Libra R-CNN, CVPR 2019, section 3.1) over to it:
``select`` draws negatives and ignores the others, ``reweight`` keeps all and weighs them by their
IoU bin. Both work on one image at a time.

Neither touches the positives, nor what the loss is divided by, which is their number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detectron_ext.registry import Protocol, Registry
from detectron_ext.sampling.iou_balanced import sample_iou_balanced
from detectron_ext.sampling.iou_bins import iou_bins
from detectron_ext.sampling.matching import BACKGROUND, IGNORED


class AnchorImage(NamedTuple):
    """The K anchors of one image, all levels, after they were matched with its G objects.

    A mode may read the arrays and must not change them.

    Attributes:
        anchors: (K, 4) float32, x1, y1, x2, y2 in pixels of the network's input.
        labels: (K,) int32: class number from 1, 0 background, -1 ignored.
        overlaps: (K,) float32, IoU of each anchor with its best ground-truth box.
        matched: (K,) int64, that box; 0 where there is none.
        boxes: (G, 4) float32, the ground-truth boxes without crowds. G may be 0.
        classes: (G,) int32, their class numbers from 1.
        rng: source of every draw: the same minibatch gets the same draw when a run is resumed.
    """

    anchors: np.ndarray
    labels: np.ndarray
    overlaps: np.ndarray
    matched: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    rng: np.random.Generator


class SampledAnchors(NamedTuple):
    """What a mode returns for one image.

    Attributes:
        labels: (K,) int32 as in `AnchorImage`; the anchors that do not train are -1. Anchors that
            are labelled as positive regress to the box that they are matched with.
        weights: (K,) float32, factor of each anchor's class loss. None where all are 1; required
            of a mode that weighs.
        matched: (K,) int64, new matches; None where they are as before.
    """

    labels: np.ndarray
    weights: np.ndarray | None = None
    matched: np.ndarray | None = None


class SamplerMode(Protocol):
    """A class that is made once for a run, with the configuration, and called once an image.

    The loader's threads call it at the same time: what it changes in itself needs a lock. It raises
    ConfigError where it is made with settings that do not suit it.

    Attributes:
        weighs: whether it returns weights. The class loss is then the one that takes weights, which
            needs RETINANET.SOFTMAX False.
    """

    weighs: bool

    def __init__(self, config: Any) -> None: ...

    def __call__(self, image: AnchorImage) -> SampledAnchors: ...


MODES: Registry[type[SamplerMode]] = Registry("LIBRA.RETINANET_SAMPLER.MODE")
"""RetinaNet's sampler modes by the names that LIBRA.RETINANET_SAMPLER.MODE takes.

An entry is a class, see `SamplerMode`. Losses are divided by the number of positives before the
sampler, so a mode changes what trains and not the scale of the losses.
"""


def mode_weighs(config) -> bool:
    """Return whether the mode that the configuration names gives anchors weights.

    Raises:
        ConfigError: there is no such mode.
    """
    return MODES.choose(config.LIBRA.RETINANET_SAMPLER.MODE).weighs


@MODES.register("none")
class _AllAnchors:
    """All anchors train alike, as in the RetinaNet paper."""

    weighs = False

    def __init__(self, config):
        pass

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        return SampledAnchors(image.labels)


@MODES.register("select")
class _SelectedNegatives:
    """Negatives beyond an IoU-balanced draw are ignored."""

    weighs = False

    def __init__(self, config):
        settings = config.LIBRA.RETINANET_SAMPLER
        self._options = {
            "upper": config.RETINANET.NEGATIVE_OVERLAP,
            "num_bins": settings.NUM_BINS,
            "neg_per_pos": settings.NEG_PER_POS,
            "min_neg": settings.MIN_NEG,
        }

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        labels = select_negatives(image.labels, image.overlaps, image.rng, **self._options)
        return SampledAnchors(labels)


@MODES.register("reweight")
class _WeightedNegatives:
    """All negatives train, with weights that even out their IoU bins."""

    weighs = True

    def __init__(self, config):
        self._upper = config.RETINANET.NEGATIVE_OVERLAP
        self._num_bins = config.LIBRA.RETINANET_SAMPLER.NUM_BINS

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        weights = balancing_weights(
            image.labels, image.overlaps, upper=self._upper, num_bins=self._num_bins
        )
        return SampledAnchors(image.labels, weights)


def select_negatives(
    labels: np.ndarray,
    overlaps: np.ndarray,
    rng: np.random.Generator,
    *,
    upper: float,
    num_bins: int,
    neg_per_pos: float,
    min_neg: int,
) -> np.ndarray:
    """Ignore the negatives beyond an IoU-balanced draw of max(min_neg, neg_per_pos * positives).

    Args:
        labels: (K,) int32: class number, 0 background, -1 ignored.
        overlaps: (K,) float32, IoU of each anchor with its best ground truth.
        rng: source of the draw.
        upper: RETINANET.NEGATIVE_OVERLAP, where the bins, which begin at 0, end.
        num_bins, neg_per_pos, min_neg: as in LIBRA.RETINANET_SAMPLER.

    Returns:
        (K,) int32, new: as ``labels``, with -1 for the negatives that were not drawn.
    """
    negatives = np.flatnonzero(labels == BACKGROUND)
    budget = max(min_neg, int(neg_per_pos * np.count_nonzero(labels > BACKGROUND)))
    drawn = sample_iou_balanced(overlaps, negatives, budget, rng, upper=upper, num_bins=num_bins)
    selected = labels.copy()
    selected[negatives] = IGNORED
    selected[drawn] = BACKGROUND
    return selected


def balancing_weights(
    labels: np.ndarray, overlaps: np.ndarray, *, upper: float, num_bins: int
) -> np.ndarray:
    """Weights with which each IoU bin that has negatives counts the same in the loss.

    Of n negatives in b bins that are not empty, one in a bin of m weighs n / (b * m): each bin's
    weights add up to n / b, all to n as without weights.

    Args:
        labels: (K,) int32: class number, 0 background, -1 ignored.
        overlaps: (K,) float32, IoU of each anchor with its best ground truth.
        upper: RETINANET.NEGATIVE_OVERLAP, where the bins, which begin at 0, end.
        num_bins: LIBRA.RETINANET_SAMPLER.NUM_BINS.

    Returns:
        (K,) float32: 1 for positives, and for ignored anchors, which have no loss to weigh.
    """
    weights = np.ones(len(labels), dtype=np.float32)
    negatives = np.flatnonzero(labels == BACKGROUND)
    bins = iou_bins(overlaps[negatives], 0.0, upper, num_bins)
    sizes = np.bincount(bins, minlength=num_bins)
    # The weight of an empty bin is used for no anchor; 1 keeps the division from failing.
    per_bin = len(negatives) / np.maximum(1, np.count_nonzero(sizes) * sizes)
    weights[negatives] = per_bin[bins]
    return weights
