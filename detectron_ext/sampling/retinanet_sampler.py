"""RetinaNet's sampler: which anchors are trained, as what, and how much each counts.

RetinaNet draws no samples. Its focal loss gives all anchors a weight that depends on their error.
Two modes apply the idea of IoU-balanced negatives (Pang et al., Libra R-CNN, CVPR 2019, section
3.1) to it. ``select`` draws negatives and ignores the others. ``reweight`` keeps all negatives and
gives them weights by their IoU bin. Both work on one image at a time.

Both leave the positives as they are. The loss is divided by the number of positives, so its scale
does not change. Two other modes decide which anchors are positive, and the loss is divided by their
number: ``atss``, and its control ``threshold_as_atss`` (see `detectron_ext.sampling.atss`).

Both were measured with the focal loss, and both cost AP there: the focal loss already spreads the
gradient of the negatives over the bins. ``select`` with RETINANET.LOSS_GAMMA 0 and LOSS_ALPHA 0.5
samples instead: the focal loss is then half of the plain cross entropy, and a draw by NEGATIVE
decides which negatives train, as in the comparison of the paper.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.registry import Protocol, Registry
from detectron_ext.sampling.atss import AdaptivePositives, adaptive_positives
from detectron_ext.sampling.box_sampler import NegativeDraw
from detectron_ext.sampling.iou_bins import iou_bins
from detectron_ext.sampling.matching import BACKGROUND, IGNORED

Draw = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]


class AnchorImage(NamedTuple):
    """The K anchors of all levels of one image, matched with the image's G objects.

    A mode must not change the arrays.

    Attributes:
        anchors: (K, 4) float32 rows (x1, y1, x2, y2) in pixels of the network's input.
        labels: (K,) int32: class number from 1, 0 for background, -1 for ignored.
        overlaps: (K,) float32, the IoU of each anchor with its best ground-truth box.
        matched: (K,) int64, the number of that box, from 0; 0 if there is none.
        boxes: (G, 4) float32, the ground-truth boxes without crowds. G may be 0.
        classes: (G,) int32, their class numbers, from 1.
        rng: source of every draw. A minibatch has the same source when a run is resumed.
        level_shapes: (A, H, W) of each pyramid level by its number, finest first: A anchors at each
            position of an H x W map. The anchors of a level follow those of the level before. They
            are ordered by anchor, row and column.
    """

    anchors: np.ndarray
    labels: np.ndarray
    overlaps: np.ndarray
    matched: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    rng: np.random.Generator
    level_shapes: dict[int, tuple[int, int, int]]

    @property
    def levels(self) -> np.ndarray:
        """(K,) int64, the number of each anchor's pyramid level."""
        sizes = [a * h * w for a, h, w in self.level_shapes.values()]
        return np.repeat(np.array(list(self.level_shapes), dtype=np.int64), sizes)


class SampledAnchors(NamedTuple):
    """The result of a mode for one image.

    Attributes:
        labels: (K,) int32 as in `AnchorImage`. Anchors with label -1 are not trained. Anchors with
            a class number regress to the box that they are matched with.
        weights: (K,) float32, at least 0, the factor of each anchor's class loss. It must be None
            for a mode with ``weighs = False``.
        matched: (K,) int64, new matches, or None to keep the matches.
    """

    labels: np.ndarray
    weights: np.ndarray | None = None
    matched: np.ndarray | None = None


class SamplerMode(Protocol):
    """A class that is instantiated once for a run. The instance is called once for each image.

    The threads of the loader call it at the same time, so it needs a lock to change its own
    attributes.

    Attributes:
        weighs: whether the mode returns weights. If so, the class loss is one that takes weights,
            and RETINANET.SOFTMAX must be False.
        assigns: optional, whether the mode decides which anchors are positive; False without it.
            If so, the losses are divided by the number of its positives, and no anchor is ignored
            because of RETINANET.NEGATIVE_OVERLAP: the labels of the `AnchorImage` need not be used.
            Negatives in crowds are ignored afterwards, if the configuration says so. If not, the
            losses are divided by the number of positives before the mode.
        floor_thresh: optional, IoU at which the first bin of negatives in the training log begins;
            0.0 without it.
    """

    weighs: bool

    def __init__(self, config: Settings) -> None:
        """Take the whole configuration.

        Raises:
            ConfigError: settings that this mode cannot use.
        """

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        """Return which anchors of an image are trained; `RetinanetTargets` checks the result."""
        ...


MODES: Registry[type[SamplerMode]] = Registry(
    "LIBRA.RETINANET_SAMPLER.MODE",
    "a class whose attribute weighs is True or False, and assigns, if it has one",
    lambda part: (
        isinstance(part, type)
        and isinstance(getattr(part, "weighs", None), bool)
        and isinstance(getattr(part, "assigns", False), bool)
    ),
)
"""RetinaNet's sampler modes by the names that LIBRA.RETINANET_SAMPLER.MODE takes.

An entry is a class, see `SamplerMode`. The losses are divided by the number of positives before the
mode was applied: a mode changes which anchors are trained, but not the scale of the losses. A mode
with ``assigns = True`` decides what a positive is. The losses are then divided by the number of the
positives that it returns.
"""

# Above every IoU, which may be exactly 1.
_ABOVE_ALL_OVERLAPS = 1.0 + 1e-6


def mode_weighs(config: Settings) -> bool:
    """Return whether the mode that the configuration names returns weights.

    Raises:
        ConfigError: there is no such mode.
    """
    return MODES.choose(config.LIBRA.RETINANET_SAMPLER.MODE).weighs


def configured_draw(config: Settings) -> NegativeDraw | None:
    """Return what draws the negatives of mode ``select``; None for every other mode.

    Raises:
        ConfigError: the sampler of negatives cannot use its settings.
    """
    settings = config.LIBRA.RETINANET_SAMPLER
    if settings.MODE != "select":
        return None
    return NegativeDraw(settings.NEGATIVE, settings, config.RETINANET.NEGATIVE_OVERLAP)


def mode_assigns(config: Settings) -> bool:
    """Return whether the mode that the configuration names decides which anchors are positive.

    Raises:
        ConfigError: there is no such mode.
    """
    return getattr(MODES.choose(config.LIBRA.RETINANET_SAMPLER.MODE), "assigns", False)


def negative_limit(config: Settings) -> float:
    """Return the IoU with the best object below which all negatives lie.

    It is RETINANET.NEGATIVE_OVERLAP, or just above 1 for a mode that assigns.
    """
    return _ABOVE_ALL_OVERLAPS if mode_assigns(config) else config.RETINANET.NEGATIVE_OVERLAP


@MODES.register("none")
class _AllAnchors:
    """Trains all anchors alike, as in the RetinaNet paper."""

    weighs = False

    def __init__(self, config: Settings) -> None:
        pass

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        return SampledAnchors(image.labels)


@MODES.register("select")
class _SelectedNegatives:
    """Ignores the negatives that a draw leaves out, see `select_negatives`."""

    weighs = False

    def __init__(self, config: Settings) -> None:
        self._settings = config.LIBRA.RETINANET_SAMPLER
        self._draw = NegativeDraw(
            self._settings.NEGATIVE, self._settings, config.RETINANET.NEGATIVE_OVERLAP
        )
        self.floor_thresh = self._draw.floor_thresh

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        settings = self._settings
        labels = select_negatives(
            image.labels, image.overlaps, image.rng, self._draw,
            neg_per_pos=settings.NEG_PER_POS, min_neg=settings.MIN_NEG,
        )  # fmt: skip
        return SampledAnchors(labels)


@MODES.register("reweight")
class _WeightedNegatives:
    """Trains all negatives, with weights that balance their IoU bins, see `balancing_weights`."""

    weighs = True

    def __init__(self, config: Settings) -> None:
        self._upper = config.RETINANET.NEGATIVE_OVERLAP
        self._num_bins = config.LIBRA.RETINANET_SAMPLER.NUM_BINS

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        weights = balancing_weights(
            image.labels, image.overlaps, upper=self._upper, num_bins=self._num_bins
        )
        return SampledAnchors(image.labels, weights)


class _Assignment:
    """A mode that chooses as many positives in an image as ATSS."""

    weighs = False
    assigns = True

    def __init__(self, config: Settings) -> None:
        self._num_positions = config.LIBRA.RETINANET_SAMPLER.ATSS_POSITIONS

    def _adaptive(self, image: AnchorImage) -> AdaptivePositives:
        shapes = list(image.level_shapes.values())
        return adaptive_positives(image.anchors, shapes, image.boxes, self._num_positions)


@MODES.register("atss")
class _AdaptiveAssignment(_Assignment):
    """Chooses positives by a threshold of each object, see `adaptive_positives`."""

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        positives = self._adaptive(image)
        labels, matched = np.zeros_like(image.labels), image.matched.copy()
        labels[positives.anchors] = image.classes[positives.objects]
        matched[positives.anchors] = positives.objects
        return SampledAnchors(labels, matched=matched)


@MODES.register("threshold_as_atss")
class _ThresholdAssignment(_Assignment):
    """Control of ``atss``: as many positives, by one threshold for all objects of an image.

    They are the anchors with the highest IoU with their best object, the first of equals.
    """

    def __call__(self, image: AnchorImage) -> SampledAnchors:
        chosen = highest(image.overlaps, len(self._adaptive(image).anchors))
        labels = np.zeros_like(image.labels)
        labels[chosen] = image.classes[image.matched[chosen]]
        return SampledAnchors(labels)


def highest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices (count,) of the highest of (K,) values, the first of equals, ascending."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    least = np.partition(values, -count)[-count]
    above = values > least
    chosen = np.flatnonzero(values == least)[: count - np.count_nonzero(above)]
    return np.sort(np.concatenate((np.flatnonzero(above), chosen)))


def checked_anchors(
    sampled: SampledAnchors, image: AnchorImage, num_classes: int, mode: str
) -> SampledAnchors:
    """Check the result of a mode.

    Args:
        sampled: the result.
        image: the image it is for.
        num_classes: MODEL.NUM_CLASSES, the background included.
        mode: name of the mode in `MODES`.

    Returns:
        The result with the dtypes of `SampledAnchors`.

    Raises:
        ConfigError: a wrong type, length or number, or weights that contradict ``weighs``.
    """
    fault = _fault_of_type(sampled, len(image.labels), MODES[mode].weighs)
    if not fault:
        labels, weights, matched = sampled
        sampled = SampledAnchors(
            np.asarray(labels, dtype=np.int32),
            None if weights is None else np.asarray(weights, dtype=np.float32),
            None if matched is None else np.asarray(matched, dtype=np.int64),
        )
        fault = _fault_of_values(sampled, image, num_classes)
    if fault:
        raise ConfigError(f"LIBRA.RETINANET_SAMPLER.MODE {mode}: {fault}")
    return sampled


def _fault_of_type(sampled: SampledAnchors, count: int, weighs: bool) -> str | None:
    if not isinstance(sampled, SampledAnchors):
        return f"it must return SampledAnchors, given {type(sampled).__name__}"
    if (sampled.weights is not None) != weighs:
        negation = "no " if sampled.weights is None else ""
        return f"its class says weighs = {weighs}, but it returned {negation}weights"
    kinds = {"labels": "integers", "weights": "floats", "matched": "integers"}
    for name, kind in kinds.items():
        array = getattr(sampled, name)
        if array is None and name != "labels":
            continue
        array = np.asarray(array)
        if array.shape != (count,) or array.dtype.kind != kind[0]:
            return f"its {name} must be {count} {kind}, given {array.dtype} of shape {array.shape}"
    return None


def _fault_of_values(sampled: SampledAnchors, image: AnchorImage, num_classes: int) -> str | None:
    labels, weights, matched = sampled
    if labels.min(initial=IGNORED) < IGNORED or labels.max(initial=IGNORED) >= num_classes:
        return (
            f"its labels must lie between {IGNORED} and {num_classes - 1}, given {labels.min()} to "
            f"{labels.max()}"
        )
    if weights is not None and not (np.isfinite(weights) & (weights >= 0)).all():
        return "its weights must be finite and at least 0"
    used = (image.matched if matched is None else matched)[labels > BACKGROUND]
    if len(used) and not (used.min() >= 0 and used.max() < len(image.boxes)):
        return (
            f"its positives must be matched with boxes 0 to {len(image.boxes) - 1}, given "
            f"{used.min()} to {used.max()}"
            if len(image.boxes)
            else "it labels anchors as positive in an image without objects"
        )
    return None


def select_negatives(
    labels: np.ndarray,
    overlaps: np.ndarray,
    rng: np.random.Generator,
    draw: Draw,
    *,
    neg_per_pos: float,
    min_neg: int,
) -> np.ndarray:
    """Draw max(min_neg, neg_per_pos * positives) negatives and ignore the others.

    Args:
        labels: (K,) int32: class number, 0 for background, -1 for ignored.
        overlaps: (K,) float32, the IoU of each anchor with its best ground-truth box.
        rng: source of the draw.
        draw: draws negatives, given overlaps, indices of the negatives, their number and rng, as
            `NegativeDraw` does.
        neg_per_pos: negatives for each positive, LIBRA.RETINANET_SAMPLER.NEG_PER_POS.
        min_neg: fewest negatives, LIBRA.RETINANET_SAMPLER.MIN_NEG.

    Returns:
        (K,) int32, a copy of ``labels`` with -1 for the negatives that were not drawn.
    """
    negatives = np.flatnonzero(labels == BACKGROUND)
    budget = max(min_neg, int(neg_per_pos * np.count_nonzero(labels > BACKGROUND)))
    drawn = draw(overlaps, negatives, budget, rng)
    selected = labels.copy()
    selected[negatives] = IGNORED
    selected[drawn] = BACKGROUND
    return selected


def balancing_weights(
    labels: np.ndarray, overlaps: np.ndarray, *, upper: float, num_bins: int
) -> np.ndarray:
    """Return weights that give every IoU bin with negatives the same total weight.

    Let n negatives lie in b non-empty bins. A negative in a bin of m negatives gets the weight
    n / (b * m). The weights of a bin then add up to n / b, and all weights to n, as without
    weights.

    Args:
        labels: (K,) int32: class number, 0 for background, -1 for ignored.
        overlaps: (K,) float32, the IoU of each anchor with its best ground-truth box.
        upper: end of the last bin, RETINANET.NEGATIVE_OVERLAP. The first bin begins at 0.
        num_bins: number of bins, LIBRA.RETINANET_SAMPLER.NUM_BINS.

    Returns:
        (K,) float32. Positives and ignored anchors have the weight 1.
    """
    weights = np.ones(len(labels), dtype=np.float32)
    negatives = np.flatnonzero(labels == BACKGROUND)
    bins = iou_bins(overlaps[negatives], 0.0, upper, num_bins)
    sizes = np.bincount(bins, minlength=num_bins)
    # No anchor gets the weight of an empty bin. The 1 avoids a division by zero there.
    per_bin = len(negatives) / np.maximum(1, np.count_nonzero(sizes) * sizes)
    weights[negatives] = per_bin[bins]
    return weights
