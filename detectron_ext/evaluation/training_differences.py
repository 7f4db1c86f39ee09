"""What the differences of a comparison say about training again: t intervals and tests.

The scores of the trainings of both sides are compared metric by metric. The metric that decides is
named before the runs are compared: the primary metric. The p values of each metric are corrected
for the number of variants, but not for the number of metrics.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from detectron_ext.errors import choice_error
from detectron_ext.evaluation.comparison import LABELS, Measured
from detectron_ext.evaluation.intervals import (
    LEVEL,
    POWER,
    Difference,
    holm,
    paired_difference,
    welch_difference,
)

PRIMARY = "AP"


class Design(NamedTuple):
    """How runs were planned.

    Attributes:
        primary: the metric that decides, a key of `comparison.LABELS`.
        is_named: whether the user named it; otherwise it is PRIMARY.
        is_paired: whether training number k of a candidate belongs to number k of the baseline:
            they have the same seed and the same images.
        num_variants: number of candidates that are compared with the baseline.
        num_folds: number of folds of a cross-validation; 0 without one.
    """

    primary: str = PRIMARY
    is_named: bool = False
    is_paired: bool = False
    num_variants: int = 1
    num_folds: int = 0

    @property
    def overlap(self) -> float:
        """Number of test images of a fold divided by the number of its training images."""
        return 1 / (self.num_folds - 1) if self.num_folds else 0.0


def check_primary(primary: Any, source: str) -> None:
    """Check the name of a primary metric.

    Args:
        primary: the name.
        source: where it was given, for the message.

    Raises:
        ConfigError: there is no such metric.
    """
    if not isinstance(primary, str) or primary not in LABELS:
        raise choice_error(source, LABELS, primary)


def fill_training_differences(
    rows: Sequence[dict],
    baseline: Sequence[Measured],
    candidate: Sequence[Measured],
    design: Design,
) -> None:
    """Put the differences over trainings into the rows that `comparison.compare` returned.

    ``over_trainings`` becomes a dictionary of method ("paired t" or "Welch"), counts (numbers of
    trainings of both sides), difference, interval ([low, high]), p, p_holm (None until
    `correct_for_variants` fills it), detectable (see `intervals.Difference`) and
    interval_of_other_images ([low, high] with the correction for folds that share training images;
    None without folds). It stays None for a cost, for a score that a run lacks, and with fewer than
    two trainings on a side.

    Args:
        rows: the rows, changed in place.
        baseline: the trainings of the baseline: its runs, or those of all folds.
        candidate: the trainings of the candidate, if paired in the baseline's order.
        design: how the runs were planned.
    """
    for row in rows:
        old, new = (
            [one.values.get(row["metric"]) for one in side] for side in (baseline, candidate)
        )
        if None not in (*old, *new):
            row["over_trainings"] = _over_trainings(old, new, design)


def _over_trainings(
    baseline: Sequence[Any], candidate: Sequence[Any], design: Design
) -> dict[str, Any] | None:
    compare = paired_difference if design.is_paired else welch_difference
    found = compare(baseline, candidate)
    if found is None:
        return None
    wider: Difference | None = None
    if design.is_paired and design.overlap:
        wider = paired_difference(baseline, candidate, design.overlap)
    return {
        "method": found.method,
        "counts": list(found.counts),
        "difference": found.mean,
        "interval": found.interval,
        "p": found.p_value,
        "p_holm": None,
        "detectable": found.detectable(design.num_variants),
        "interval_of_other_images": None if wider is None else wider.interval,
    }


def correct_for_variants(candidates: Sequence[dict], num_variants: int) -> None:
    """Fill ``p_holm`` of each metric by Holm's correction over the candidates.

    Args:
        candidates: entries of a comparison with their ``rows``, changed in place.
        num_variants: number of candidates that were planned; those without a result count as not
            significant.
    """
    for metric in LABELS:
        found = [
            row["over_trainings"]
            for candidate in candidates
            for row in candidate["rows"]
            if row["metric"] == metric and row["over_trainings"]
        ]
        for entry, p_value in zip(found, holm([entry["p"] for entry in found], num_variants)):
            entry["p_holm"] = p_value


def described(design: Design) -> dict[str, Any]:
    """Return a design as plain data, for the files of a comparison."""
    return {
        "primary": design.primary,
        "primary_was_named": design.is_named,
        "paired": design.is_paired,
        "num_variants": design.num_variants,
        "num_folds": design.num_folds,
        "level": LEVEL,
        "power": POWER,
    }


def explanation(design: dict, how_to_name: str) -> str:
    """Return in sentences what the columns of a comparison are.

    Args:
        design: what `described` returned.
        how_to_name: the words of the sentence that tells how to name a primary metric.
    """
    named = "" if design["primary_was_named"] else f" (none was named: {how_to_name})"
    kind = "paired t" if design["paired"] else "Welch's t"
    what = "seeds and folds" if design["num_folds"] else "trainings"
    variants = design["num_variants"]
    over = (
        f"Holm's correction over {variants} variants"
        if variants > 1
        else "one variant, so no correction"
    )
    lines = [
        f"Primary metric: {LABELS[design['primary']]}{named}.",
        f"Over {what}: {kind} interval.",
        f"p: {over}.",
        f"Detectable: smallest true difference that this design finds with a power of "
        f"{100 * design['power']:.0f} %, at the spread that was seen.",
    ]
    if design["num_folds"]:
        lines.append(
            "Over other images: the same interval, widened because folds share training images."
        )
    return " ".join(lines)
