"""Differences between candidate and baseline runs, with intervals over images and over trainings.

A difference is the mean over the candidate's runs minus the mean over the baseline's runs. It has
two intervals:

- **over images**: the images of the test set are drawn again with replacement, the same images for
  all runs (percentile bootstrap with a fixed seed). The interval estimates the difference of these
  models on another test set.
- **over trainings**: a t interval over the scores of the runs, see `training_differences`. It
  estimates the difference after training again.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
from pycocotools.coco import COCO

from detectron_ext.counted import counted
from detectron_ext.errors import DatasetError, UserError
from detectron_ext.evaluation.average_precision import resampled_average_precision
from detectron_ext.evaluation.coco_eval import (
    METRICS,
    MatchedDetections,
    at_limit,
    match_detections,
)
from detectron_ext.evaluation.detection_limit import COCO_LIMIT, limit_message
from detectron_ext.evaluation.matches import collect_matches
from detectron_ext.evaluation.operating_points import (
    THRESHOLD,
    merged,
    resampled_points,
    scored_boxes,
    scored_concepts,
    summarise_points,
)
from detectron_ext.evaluation.run_folder import TestRun
from detectron_ext.evaluation.training_log import training_costs

# With fewer detections than this, all may have high scores although the test kept low ones.
_MANY = 20
_POINTS = ("recall", "precision", "best_f1")
LABELS = {
    "concept_recall": "Concept recall",
    "concept_precision": "Concept precision",
    "concept_best_f1": "Concept best F1",
    "box_recall": "Box recall",
    "box_precision": "Box precision",
    "box_best_f1": "Box best F1",
    **{name: name for name in METRICS},
}
_COSTS = {
    "training_cpu_seconds": "Training, CPU time (s)",
    "training_seconds": "Training, wall time (s)",
    "step_seconds": "A step, wall time (s)",
    "peak_memory_mb": "Peak memory (MB)",
}


@dataclass(frozen=True)
class Measured:
    """The scores of a run, on all images and on each resample.

    Attributes:
        run: the tested run.
        values: {metric: float or None} on all images.
        samples: {metric: (B,) float64} on the resamples; {} without detections.
        costs: results of `training_log.training_costs`.
        sweeps: {"box" or "concept": scores over thresholds}, see
            `operating_points.summarise_points`; {} without detections.
        training: entries of the training log.
        fingerprint: text that is equal for equal detections; None without detections.
    """

    run: TestRun
    values: dict
    samples: dict
    costs: dict
    sweeps: dict
    training: list
    fingerprint: str | None = None


def metric_labels(limit: int = COCO_LIMIT) -> dict[str, str]:
    """Return the label of each metric, with those of an additional AP if there is one."""
    if limit == COCO_LIMIT:
        return LABELS
    return {**LABELS, **{at_limit(name, limit): at_limit(name, limit) for name in METRICS}}


def image_resamples(num_images: int, num_resamples: int, seed: int = 0) -> np.ndarray:
    """Return how often each image counts, (1 + B, I) int64: all images once, then B resamples."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_resamples)
    return np.concatenate([np.ones((1, num_images), np.int64), drawn])


def measure(
    run: TestRun,
    coco_gt: COCO,
    weights: np.ndarray,
    threshold: float = THRESHOLD,
    limit: int = COCO_LIMIT,
) -> Measured:
    """Score a run on all images and on resamples of them.

    Args:
        run: the tested run.
        coco_gt: ground truth of the data set that was tested.
        weights: (1 + B, I) int64 of :func:`image_resamples`.
        threshold: detections with this score or more count for precision and recall.
        limit: detections of a class in an image that an additional AP counts, at least 100.

    Raises:
        UserError: the detections are damaged or do not fit the annotations, or the run has only
            proposals.
    """
    _check_images(run, len(coco_gt.imgs))
    detections = run.detections(coco_gt)
    log = run.training()
    costs = training_costs(log)
    if detections is None:
        values = dict.fromkeys(metric_labels(limit))
        values.update({name: (run.results or {}).get(name) for name in METRICS})
        return Measured(run, values, {}, costs, {}, log.entries)
    matched = _match(run, coco_gt, detections)
    binding = limit_message(coco_gt.anns.values(), detections, limit)
    run.warnings += [f"{run.name}: {binding}"] if binding else []
    matches = collect_matches(matched)
    kinds = {
        "concept": scored_concepts(coco_gt, detections, matched.class_names),
        "box": scored_boxes(matches),
    }
    scores = resampled_average_precision(matches, weights)
    if limit > COCO_LIMIT:
        more = resampled_average_precision(matches, weights, limit)
        scores.update({at_limit(name, limit): values for name, values in more.items()})
    for kind, scored in kinds.items():
        points = resampled_points(merged(scored), weights, threshold)
        scores.update({f"{kind}_{name}": points[name] for name in _POINTS})
    values = {name: _defined(scores[name][0]) for name in metric_labels(limit)}
    samples = {name: scores[name][1:] for name in metric_labels(limit)}
    sweeps = {kind: summarise_points(scored, threshold)["sweep"] for kind, scored in kinds.items()}
    _check_results(run, values)
    _check_lowest_score(run, detections, threshold)
    fingerprint = _fingerprint(detections)
    return Measured(run, values, samples, costs, sweeps, log.entries, fingerprint)


def _match(run: TestRun, coco_gt: COCO, detections: list) -> MatchedDetections:
    try:
        matched = match_detections(coco_gt, detections)
    except DatasetError as error:
        raise UserError(f"{run.name}: {error}") from error
    if matched.num_detections < len(detections):
        run.warnings.append(
            f"{run.name}: not scored: {len(detections) - matched.num_detections} of "
            f"{counted(len(detections), 'detection')}, of classes that the annotations do not have"
        )
    return matched


def copies(runs: Sequence[Measured]) -> list[str]:
    """Return a warning for each run with the same detections as an earlier one."""
    first: dict = {}
    warnings = []
    for one in runs:
        earlier = first.setdefault(one.fingerprint, one)
        if one.fingerprint is not None and one is not earlier:
            warnings.append(
                f"{one.run.name} has the same detections as {earlier.run.name}: it counts as "
                "another training, so the spread of the trainings is underestimated"
            )
    return warnings


_NO_INTERVALS = {"interval": None, "over_trainings": None}


def compare(baseline: Sequence[Measured], candidate: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return the rows of the table that compares a candidate with the baseline.

    Args:
        baseline: runs of the baseline.
        candidate: runs of the candidate, measured on the same resamples.

    Returns:
        For each metric a dictionary of metric, label, baseline and candidate ({mean, std, values}),
        difference, percent and interval over images ([low, high]). A value is None if it is
        undefined: a score that a run does not have, the deviation of one run, a percentage of 0, or
        an interval without detections. ``over_trainings`` is None until `training_differences`
        fills it.
    """
    rows = [_row(name, LABELS.get(name, name), baseline, candidate) for name in baseline[0].values]
    for name, label in _COSTS.items():
        sides = [[one.costs[name] for one in side] for side in (baseline, candidate)]
        rows.append({"metric": name, "label": label, **_means(*sides), **_NO_INTERVALS})
    return rows


def _row(
    name: str, label: str, baseline: Sequence[Measured], candidate: Sequence[Measured]
) -> dict[str, Any]:
    sides = [[one.values[name] for one in side] for side in (baseline, candidate)]
    row = {"metric": name, "label": label, **_means(*sides)}
    if row["difference"] is None or not all(one.samples for one in (*baseline, *candidate)):
        return {**row, **_NO_INTERVALS}
    samples = [np.stack([one.samples[name] for one in side]) for side in (baseline, candidate)]
    interval = _interval(samples[1].mean(axis=0) - samples[0].mean(axis=0))
    return {**row, "interval": interval, "over_trainings": None}


def _interval(differences: np.ndarray) -> list | None:
    """Return the limits of the middle 95 %. Resamples with an undefined score do not count."""
    differences = differences[~np.isnan(differences)]
    if not differences.size:
        return None
    return [float(value) for value in np.percentile(differences, [2.5, 97.5])]


def _means(baseline: list, candidate: list) -> dict[str, Any]:
    sides = {"baseline": mean_and_deviation(baseline), "candidate": mean_and_deviation(candidate)}
    old, new = (side["mean"] for side in sides.values())
    known = old is not None and new is not None
    percent = 100 * (new - old) / old if known and old else None
    return {**sides, "difference": new - old if known else None, "percent": percent}


def mean_and_deviation(values: list) -> dict[str, Any]:
    """Return {mean, std, values}.

    Mean and standard deviation are None if a value is missing. The deviation of one value is None.
    """
    if any(value is None for value in values):
        return {"mean": None, "std": None, "values": values}
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "values": values}


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_images(run: TestRun, num_images: int) -> None:
    tested = (run.results or {}).get("num_images", num_images)
    if tested != num_images:
        raise UserError(
            f"{run.name} was tested on {tested} images, the annotations of {run.dataset} have "
            f"{num_images}: use the annotations that it was tested with"
        )


def _check_lowest_score(run: TestRun, detections: list, threshold: float) -> None:
    """Add a warning if a test kept only scores above the threshold (TEST.SCORE_THRESH)."""
    lowest = min((found["score"] for found in detections), default=0.0)
    shown = math.floor(100 * lowest) / 100
    if len(detections) >= _MANY and shown > threshold:
        run.warnings.append(
            f"{run.name}: its test kept no scores below {shown:.2f}, so precision and recall at "
            f"{threshold:g} are those at {shown:.2f}"
        )


def _fingerprint(detections: list) -> str | None:
    if not detections:
        return None
    return hashlib.sha256(json.dumps(detections, sort_keys=True).encode()).hexdigest()


def _check_results(run: TestRun, values: dict) -> None:
    told = (run.results or {}).get("AP")
    if told is not None and values["AP"] is not None and abs(told - values["AP"]) > 1e-6:
        run.warnings.append(
            f"{run.name}: results.json has AP {told:.4f}, but its detections have AP "
            f"{values['AP']:.4f} on these annotations; the latter is compared"
        )
