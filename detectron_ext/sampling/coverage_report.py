"""What the log says about the fit of anchors and objects, and which keys it names."""

from __future__ import annotations

import logging
from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.config import is_retinanet, reads_proposals
from detectron_ext.config.settings import Settings
from detectron_ext.counted import by_number, counted
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.geometry.boxes import widths_heights
from detectron_ext.sampling.anchor_coverage import Coverage, anchor_coverage
from detectron_ext.sampling.retinanet_sampler import mode_assigns

_LOG = logging.getLogger(__name__)

# "More than a few per cent": a larger share of the boxes, or of the scales, is a warning.
MAX_SHARE = 0.05
# A cause of fewer of the boxes is not worth its advice.
_MIN_CAUSE_SHARE = 0.1
# COCO's sizes, but in network pixels: square roots of the areas.
SIZES = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, np.inf)}


class CoverageKeys(NamedTuple):
    """Names of the keys that decide which boxes anchors fit.

    Attributes:
        negative: the negative threshold.
        positive: the positive threshold.
        size: the size of the anchors.
        ratios: their aspect ratios.
        larger: the key that adds larger anchors.
        finer: the key that adds a finer grid.
    """

    negative: str
    positive: str
    size: str
    ratios: str
    larger: str
    finer: str


def coverage_keys(config: Settings) -> CoverageKeys:
    """Return the names of a detector's keys; the detector has anchors."""
    larger, finer = "FPN.RPN_MAX_LEVEL", "FPN.RPN_MIN_LEVEL"
    if is_retinanet(config):
        own = ("NEGATIVE_OVERLAP", "POSITIVE_OVERLAP", "ANCHOR_SCALE", "ASPECT_RATIOS")
        negative, positive, size, ratios = (f"RETINANET.{name}" for name in own)
        return CoverageKeys(negative, positive, size, ratios, larger, finer)
    negative, positive = "TRAIN.RPN_NEGATIVE_OVERLAP", "TRAIN.RPN_POSITIVE_OVERLAP"
    size, ratios = "FPN.RPN_ANCHOR_START_SIZE", "FPN.RPN_ASPECT_RATIOS"
    if not (config.FPN.FPN_ON and config.FPN.MULTILEVEL_RPN):
        size, ratios, larger, finer = "RPN.SIZES", "RPN.ASPECT_RATIOS", "RPN.SIZES", "RPN.STRIDE"
    return CoverageKeys(negative, positive, size, ratios, larger, finer)


def report_anchor_coverage(
    records: Sequence[ImageRecord], config: Settings, classes: Sequence[str]
) -> None:
    """Log how well the anchors fit the objects to train on, and warn where many do not train.

    Args:
        records: the training images.
        config: a merged configuration.
        classes: class names, background first.
    """
    coverage = anchor_coverage(records, config)
    if coverage is None:
        if is_retinanet(config) and no_coverage_reason(config):
            _LOG.info("%s", no_coverage_reason(config))
        return
    _LOG.info("%s", coverage_summary(coverage, config))
    for warning in coverage_warnings(coverage, config, classes):
        _LOG.warning("%s", warning)


def no_coverage_reason(config: Settings) -> str:
    """Return, in one line, why the thresholds of anchors tell nothing; empty if they do."""
    if reads_proposals(config):
        return "anchors: none, because Fast R-CNN reads proposals"
    if is_retinanet(config) and mode_assigns(config):
        mode = config.LIBRA.RETINANET_SAMPLER.MODE
        return (
            f"anchors: LIBRA.RETINANET_SAMPLER.MODE {mode} decides which of them are positive, "
            "without RETINANET.POSITIVE_OVERLAP and NEGATIVE_OVERLAP; the training log has the "
            "share of the boxes without a positive (retinanet_instances_without_positives)"
        )
    return ""


def coverage_summary(coverage: Coverage, config: Settings) -> str:
    """Return one line with the numbers of boxes below, between and above the thresholds."""
    keys = coverage_keys(config)
    total = len(coverage.overlaps)
    part = "" if total == coverage.num_boxes else f" (a sample of {coverage.num_boxes})"
    sizes = [
        f"{name} {'/'.join(map(str, counts))}"
        for name, counts in counts_by_size(coverage).items()
        if sum(counts)
    ]
    below, between, above = _counts(coverage, np.ones(total, dtype=bool))
    return (
        f"anchors: the best IoU of {counted(total, 'box', 'boxes')}{part} after scaling is below "
        f"{keys.negative} {coverage.rules.negative:g} for {below}, from there to {keys.positive} "
        f"{coverage.rules.positive:g} for {between}, and above for {above} (the three numbers by "
        f"size after scaling: {', '.join(sizes)})"
    )


def counts_by_size(coverage: Coverage) -> dict[str, tuple[int, int, int]]:
    """Return the numbers of boxes below, between and above the thresholds of each size.

    The sizes are `SIZES`, in network pixels at the scale at which the anchors fit best.
    """
    side = np.sqrt(coverage.sides.prod(axis=1))
    return {
        name: _counts(coverage, (side >= low) & (side < high))
        for name, (low, high) in SIZES.items()
    }


def _counts(coverage: Coverage, chosen: np.ndarray) -> tuple[int, int, int]:
    below = int(np.count_nonzero(coverage.below & chosen))
    above = int(np.count_nonzero(coverage.above & chosen))
    return below, int(np.count_nonzero(chosen)) - below - above, above


def coverage_warnings(coverage: Coverage, config: Settings, classes: Sequence[str]) -> list[str]:
    """Return a message for each way in which many objects stay untrained.

    Args:
        coverage: the fit of the objects.
        config: a merged configuration with which it was computed.
        classes: class names, background first.

    Returns:
        One line each: more than `MAX_SHARE` of the boxes fit no anchor, with the keys to set; most
        boxes of a class fit none; more than `MAX_SHARE` of the drawn scales are lost on boxes that
        fit at another one.
    """
    keys = coverage_keys(config)
    below, total = int(np.count_nonzero(coverage.below)), len(coverage.overlaps)
    warnings = []
    fates = (
        "trains the RPN by at most its best anchor",
        "train the RPN by at most their best anchor",
    )
    if is_retinanet(config):
        fates = ("never trains", "never train")
    reason = f"no anchor reaches {keys.negative} {coverage.rules.negative:g}"
    if below > MAX_SHARE * total:
        advice = "; ".join(_advice(coverage, config, keys))
        warnings.append(
            f"anchors: {below} of {counted(total, 'box', 'boxes')} ({below / total:.0%}) "
            f"{by_number(below, fates[0], fates[1])}: {reason} at any scale; {advice}"
        )
    names = _untrained_classes(coverage, classes)
    if names and below <= MAX_SHARE * total:
        warnings.append(
            f"anchors: most boxes of class {', '.join(names)} {fates[1]}: {reason} at any scale; "
            + "; ".join(_advice(coverage, config, keys))
        )
    lost = float(np.mean(coverage.missed)) - below / total
    if lost > MAX_SHARE:
        warnings.append(_lost_draws(lost, config, reason))
    return warnings


def _untrained_classes(coverage: Coverage, classes: Sequence[str]) -> list[str]:
    """Return the names of classes of whose boxes more than half fit no anchor."""
    boxes = np.bincount(coverage.classes, minlength=len(classes))
    below = np.bincount(coverage.classes[coverage.below], minlength=len(classes))
    return [classes[number] for number in np.flatnonzero(2 * below > boxes)]


def _lost_draws(lost: float, config: Settings, reason: str) -> str:
    options = config.LIBRA.AUGMENTATION
    low, high = options.SCALE_RANGE
    keys = []
    if len(set(config.TRAIN.SCALES)) > 1:
        keys.append(f"TRAIN.SCALES {tuple(config.TRAIN.SCALES)}")
    if not low == high == 1:
        keys.append(f"LIBRA.AUGMENTATION.SCALE_RANGE ({low:g}, {high:g})")
    if options.ROTATE90:
        keys.append("LIBRA.AUGMENTATION.ROTATE90")
    crops = ", or a crop shows less than 30 % of the object" if options.CROP else ""
    return (
        f"anchors: at {lost:.0%} of the random scales and turns {reason} for a box that fits "
        f"another one{crops}; narrow {' and '.join(keys)}"
    )


def _advice(coverage: Coverage, config: Settings, keys: CoverageKeys) -> list[str]:
    """Return what to set for each cause of unfit boxes, the most frequent one first."""
    below = coverage.below
    anchors = np.concatenate([level.cell for level in coverage.rules.levels])
    anchor_sides = np.stack(widths_heights(anchors), axis=1)
    sides = np.maximum(coverage.sides[below], 1e-3)
    side = np.sqrt(sides.prod(axis=1))
    smallest, largest = _extremes(np.sqrt(anchor_sides.prod(axis=1)))
    ratios = sides[:, 1] / sides[:, 0]
    cut_away = coverage.cut_away[below]
    # No size or position of an anchor makes up for a wrong ratio.
    elongated = ~cut_away & (
        _ratio_overlaps(ratios, anchor_sides[:, 1] / anchor_sides[:, 0]) < coverage.rules.negative
    )
    small = ~cut_away & ~elongated & (side < smallest)
    large = ~cut_away & ~elongated & (side > largest)
    other = ~(cut_away | elongated | small | large)
    found = [
        (cut_away, "is", "are", lambda: _cut_away_advice(config)),
        (elongated, "is", "are", lambda: _ratio_advice(ratios[elongated], config, keys)),
        (
            small,
            "is",
            "are",
            lambda: _small_advice(float(np.median(side[small])), smallest, config, keys),
        ),
        (
            large,
            "is",
            "are",
            lambda: _large_advice(float(np.median(side[large])), largest, config, keys),
        ),
        (other, "lies", "lie", lambda: _other_advice(coverage, config, keys)),
    ]
    counts = sorted(((int(np.count_nonzero(which)), n) for n, (which, *_) in enumerate(found)))[
        ::-1
    ]
    return [
        f"{count} {by_number(count, *found[n][1:3])} {found[n][3]()}"
        for count, n in counts
        if count and count >= _MIN_CAUSE_SHARE * len(side)
    ]


def _extremes(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _ratio_overlaps(ratios: np.ndarray, anchor_ratios: np.ndarray) -> np.ndarray:
    """Return the IoU that a concentric anchor of the same area would have, at the best ratio."""
    distance = np.abs(np.log(ratios)[:, None] - np.log(anchor_ratios)[None])
    shared = np.exp(-distance.min(axis=1) / 2)
    return shared / (2 - shared)


def _ratio_advice(ratios: np.ndarray, config: Settings, keys: CoverageKeys) -> str:
    groups = [group for group in (ratios[ratios < 1], ratios[ratios >= 1]) if len(group)]
    wanted = " and ".join(f"{float(np.median(group)):.2g}" for group in groups)
    section, name = keys.ratios.split(".")
    given = tuple(config[section][name])
    return f"too long and narrow: add {wanted} (height / width) to {keys.ratios} {given}"


def _small_advice(side: float, smallest: float, config: Settings, keys: CoverageKeys) -> str:
    factor = smallest / side
    section, name = keys.size.split(".")
    given = config[section][name]
    if isinstance(given, (tuple, list)):
        smaller = f"add {max(1, round(side))} to {keys.size} {tuple(given)}"
    elif given > 1:
        smaller = f"lower {keys.size} from {given} to {max(1, int(given / factor))}"
    else:
        smaller = f"lower {keys.finer} {config.FPN.RPN_MIN_LEVEL}"
    return (
        f"smaller than the smallest anchors (median {side:.1f} pixels, anchors from "
        f"{smallest:.0f}): {smaller}, or enlarge TRAIN.SCALES {tuple(config.TRAIN.SCALES)} and "
        f"TRAIN.MAX_SIZE {config.TRAIN.MAX_SIZE} up to {factor:.1f} times"
    )


def _large_advice(side: float, largest: float, config: Settings, keys: CoverageKeys) -> str:
    section, name = keys.larger.split(".")
    given = config[section][name]
    if isinstance(given, (tuple, list)):
        larger = f"add {round(side)} to {keys.larger} {tuple(given)}"
    else:
        larger = f"raise {keys.larger} {given}"
    return (
        f"larger than the largest anchors (median {side:.0f} pixels, anchors up to "
        f"{largest:.0f}): {larger}, or lower TRAIN.SCALES {tuple(config.TRAIN.SCALES)}"
    )


def _cut_away_advice(config: Settings) -> str:
    low, high = config.LIBRA.AUGMENTATION.SCALE_RANGE
    return (
        "never shown by 30 % in a crop: lower LIBRA.AUGMENTATION.SCALE_RANGE "
        f"({low:g}, {high:g}) or set LIBRA.AUGMENTATION.CROP False"
    )


def _other_advice(coverage: Coverage, config: Settings, keys: CoverageKeys) -> str:
    if coverage.rules.margin >= 0:
        return (
            "where no anchor of their size is inside the image: set TRAIN.RPN_STRADDLE_THRESH "
            f"{config.TRAIN.RPN_STRADDLE_THRESH} to -1"
        )
    stride = min(level.stride for level in coverage.rules.levels)
    return (
        f"between the anchors, which are at least {stride:g} pixels apart: enlarge "
        f"TRAIN.SCALES {tuple(config.TRAIN.SCALES)} and TRAIN.MAX_SIZE {config.TRAIN.MAX_SIZE}, or "
        f"lower {keys.finer}"
    )
