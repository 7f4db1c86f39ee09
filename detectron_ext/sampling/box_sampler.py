"""The samplers that a configuration names: of the box head's regions, and of anchors."""

from __future__ import annotations

from typing import Callable, Union

import numpy as np

from detectron_ext.config.settings import LibraRetinanetSamplerSettings, LibraSamplerSettings
from detectron_ext.errors import ConfigError, shown
from detectron_ext.registry import Protocol, Registry
from detectron_ext.sampling.instance_balanced import sample_instance_balanced
from detectron_ext.sampling.iou_balanced import sample_iou_balanced
from detectron_ext.sampling.random_sampling import sample_random
from detectron_ext.sampling.sampling_statistics import count_samples

_RANDOM = "random"

NegativeSettings = Union[LibraSamplerSettings, LibraRetinanetSamplerSettings]


class NegativeSampler(Protocol):
    """A class that is instantiated once for a run. The instance is called once for each image.

    Several threads call it at the same time.

    Attributes:
        floor_thresh: IoU at which the first bin of negatives in the training log begins, usually
            0.0.
    """

    floor_thresh: float

    def __init__(self, settings: NegativeSettings, negative_threshold: float) -> None:
        """Take the settings and the IoU below which a box is negative.

        The settings are the LIBRA.SAMPLER node, or for RetinaNet LIBRA.RETINANET_SAMPLER. Both have
        the keys NEGATIVE, NUM_BINS, FLOOR_THRESH, FLOOR_FRACTION and BIN_RANGE.

        Raises:
            ConfigError: settings that this sampler cannot use.
        """

    def __call__(
        self, overlaps: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw negatives. The arguments and the result are those of `BoxSampler.negatives`."""
        ...


PositiveSampler = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]

NEGATIVES: Registry[type[NegativeSampler]] = Registry(
    "LIBRA.SAMPLER.NEGATIVE", "a class", lambda part: isinstance(part, type)
)
"""Samplers of negatives by the names that NEGATIVE of LIBRA.SAMPLER and RETINANET_SAMPLER takes.

An entry is a class, see `NegativeSampler`.
"""

POSITIVES: Registry[PositiveSampler] = Registry("LIBRA.SAMPLER.POSITIVE", "a function", callable)
"""Samplers of positives by the names that LIBRA.SAMPLER.POSITIVE takes.

An entry is a function (matched, candidates, count, rng) -> indices. Its arguments and its result
are those of `BoxSampler.positives`.
"""


@POSITIVES.register(_RANDOM)
def _random_positives(
    matched: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    return sample_random(candidates, count, rng)


POSITIVES.register("instance_balanced")(sample_instance_balanced)


@NEGATIVES.register(_RANDOM)
class _RandomNegatives:
    """Draws all candidates with the same probability."""

    floor_thresh = 0.0

    def __init__(self, settings: NegativeSettings, negative_threshold: float) -> None:
        pass

    def __call__(
        self, overlaps: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        return sample_random(candidates, count, rng)


@NEGATIVES.register("iou_balanced")
class _IouBalancedNegatives:
    """Draws evenly over bins of IoU, see `sample_iou_balanced`."""

    def __init__(self, settings: NegativeSettings, negative_threshold: float) -> None:
        self._settings = settings
        self._threshold = negative_threshold
        self.floor_thresh = settings.FLOOR_THRESH
        self._check_floor()

    def __call__(
        self, overlaps: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        settings = self._settings
        return sample_iou_balanced(
            overlaps,
            candidates,
            count,
            rng,
            upper=self._threshold,
            num_bins=settings.NUM_BINS,
            floor_thresh=self.floor_thresh,
            floor_fraction=settings.FLOOR_FRACTION,
            bin_range=settings.BIN_RANGE,
        )

    def _check_floor(self) -> None:
        floor, fraction = self.floor_thresh, self._settings.FLOOR_FRACTION
        section = _section_of(self._settings)
        if floor >= self._threshold:
            raise ConfigError(
                f"{section}.FLOOR_THRESH ({floor}) must be less than the IoU threshold of "
                f"negatives ({self._threshold}): there is no range to balance between them"
            )
        # In mmdetection's rule, boxes with overlap 0 lie below a floor of 0. In ours no box does,
        # and the fraction would be drawn from all boxes with the same probability.
        if self._settings.BIN_RANGE == "negatives" and floor == 0 and fraction > 0:
            raise ConfigError(
                f"{section}.FLOOR_FRACTION ({fraction}) has no negatives to draw from, since "
                "none lies below FLOOR_THRESH 0: raise FLOOR_THRESH or set FLOOR_FRACTION to 0"
            )


def _section_of(settings: NegativeSettings) -> str:
    """Return the name of a sampler's section, for messages. Only RetinaNet's has a MODE."""
    return "LIBRA.RETINANET_SAMPLER" if hasattr(settings, "MODE") else "LIBRA.SAMPLER"


class NegativeDraw:
    """A sampler of `NEGATIVES` whose results are checked. Threads may share it.

    Args:
        name: the sampler's name.
        settings: the node of the configuration that names it.
        negative_threshold: IoU with the ground truth below which a box is negative.

    Attributes:
        floor_thresh: IoU at which the first bin of negatives in the training log begins.

    Raises:
        ConfigError: there is no such sampler, it cannot use its settings, or it has no
            floor_thresh.
    """

    def __init__(self, name: str, settings: NegativeSettings, negative_threshold: float) -> None:
        self._name = f"{_section_of(settings)}.NEGATIVE {name}"
        self._sampler = NEGATIVES.choose(name)(settings, negative_threshold)
        floor_thresh = getattr(self._sampler, "floor_thresh", None)
        if not isinstance(floor_thresh, (int, float)):
            raise ConfigError(
                f"{self._name} must have a number floor_thresh, given {shown(floor_thresh)}"
            )
        self.floor_thresh = float(floor_thresh)

    def __call__(
        self, overlaps: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw negatives. The arguments and the result are those of `BoxSampler.negatives`."""
        drawn = self._sampler(overlaps, candidates, count, rng)
        return _checked(self._name, drawn, candidates, count, len(overlaps))


class BoxSampler:
    """Draws positives and negatives of one image. Threads may share it.

    Args:
        settings: the LIBRA.SAMPLER node of the configuration.
        negative_threshold: IoU with the ground truth below which a box is negative. It is
            TRAIN.RPN_NEGATIVE_OVERLAP for anchors and TRAIN.BG_THRESH_HI for regions.
        is_random: ignore NEGATIVE and POSITIVE, and draw at random.

    Raises:
        ConfigError: there is no such sampler, it cannot use its settings, or it has no
            floor_thresh.
    """

    def __init__(
        self, settings: LibraSamplerSettings, negative_threshold: float, is_random: bool = False
    ) -> None:
        self._negative_threshold = float(negative_threshold)
        self._num_bins = settings.NUM_BINS
        negatives, positives = settings.NEGATIVE, settings.POSITIVE
        if is_random:
            negatives = positives = _RANDOM
        self._negatives = NegativeDraw(negatives, settings, self._negative_threshold)
        self._positives = POSITIVES.choose(positives)
        self._positives_name = f"LIBRA.SAMPLER.POSITIVE {positives}"

    def positives(
        self,
        matched: np.ndarray,
        candidates: np.ndarray,
        count: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw positives by the sampler that LIBRA.SAMPLER.POSITIVE names.

        Args:
            matched: (K,) int64, the ground-truth box of every box.
            candidates: (N,) int64, the indices of the positives, each once.
            count: number of positives to draw, at least 0.
            rng: source of the draw.

        Returns:
            (min(count, N),) int64, distinct elements of ``candidates``.

        Raises:
            ConfigError: the sampler returns anything else. Fewer elements are accepted.
        """
        drawn = self._positives(matched, candidates, count, rng)
        return _checked(self._positives_name, drawn, candidates, count, len(matched))

    def negatives(
        self,
        overlaps: np.ndarray,
        candidates: np.ndarray,
        count: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw negatives by the sampler that LIBRA.SAMPLER.NEGATIVE names.

        Args:
            overlaps: (K,) float, the IoU of every box, positives included, with its best
                ground-truth box.
            candidates: (N,) int64, the indices of the negatives, each once.
            count: number of negatives to draw, at least 0.
            rng: source of the draw.

        Returns:
            (min(count, N),) int64, distinct elements of ``candidates``.

        Raises:
            ConfigError: the sampler returns anything else. Fewer elements are accepted.
        """
        return self._negatives(overlaps, candidates, count, rng)

    def counts(
        self,
        overlaps: np.ndarray,
        matched: np.ndarray,
        positives: np.ndarray,
        negatives: np.ndarray,
        num_instances: int,
    ) -> np.ndarray:
        """Count what was drawn from one image, for the training log.

        Args:
            overlaps: (K,) float, the IoU of every box with its best ground-truth box.
            matched: (K,) int64, the number of that ground-truth box.
            positives: (P,) int64, the indices of the positives drawn.
            negatives: (M,) int64, the indices of the negatives drawn.
            num_instances: number of ground-truth boxes in the image.

        Returns:
            (NUM_BINS + 6,) float32, in the layout of `sampling_statistics`. For every sampler the
            bins divide the range of IoU that negatives can have.
        """
        return count_samples(
            overlaps[negatives],
            matched[positives],
            num_instances,
            upper=self._negative_threshold,
            num_bins=self._num_bins,
            floor_thresh=self._negatives.floor_thresh,
        )


def _checked(
    name: str, drawn: np.ndarray, candidates: np.ndarray, count: int, num_boxes: int
) -> np.ndarray:
    """Return what a sampler drew, after checking it. ``name``: its key and name, for messages."""
    if drawn is candidates and len(drawn) <= count:
        return drawn
    drawn = np.asarray(drawn)
    fault = _fault_of_draw(drawn, candidates, count, num_boxes)
    if fault:
        raise ConfigError(f"{name} {fault}")
    return drawn


def _fault_of_draw(
    drawn: np.ndarray, candidates: np.ndarray, count: int, num_boxes: int
) -> str | None:
    """Return what is wrong with the result of a sampler, or None."""
    if drawn.ndim != 1 or drawn.dtype.kind not in "iu":
        return f"must return a row of integers, given {drawn.dtype} of shape {drawn.shape}"
    if len(drawn) > count:
        return f"drew {len(drawn)} boxes and should draw at most {count}"
    left = np.zeros(num_boxes, dtype=bool)
    left[candidates] = True
    if len(drawn) and not (drawn.min() >= 0 and drawn.max() < num_boxes and left[drawn].all()):
        return "drew boxes that are not among the candidates"
    left[drawn] = False
    if np.count_nonzero(left) != len(candidates) - len(drawn):
        return "drew a box more than once"
    return None
