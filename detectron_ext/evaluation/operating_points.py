"""Precision and recall at a score threshold, of boxes and of concepts.

**Boxes.** Only detections with a score at or above the threshold count. A detection is right if
COCO's rule matches it to a ground-truth box of its class at IoU 0.5 or more; the rule matches the
best score first, and each ground-truth box once. Box precision is the number of right detections
divided by the number of detections. Box recall is the number of right detections divided by the
number of ground-truth boxes. Detections on crowds count neither as right nor as wrong. The number
of detections is not limited, unlike that of COCO's AP.

**Concepts.** A concept is a class that an image shows. It is predicted if the best score of the
class in the image reaches the threshold; it is present if a box of the class is annotated. Concept
precision is the share of the predicted pairs of image and class that are present. Concept recall is
the share of the present pairs that are predicted. Pairs in which only crowds are annotated do not
count.

Both are micro-averaged: boxes or pairs of all classes are counted together. F1 is the harmonic mean
of precision and recall. The best F1 is that at the best threshold, which is chosen on the same
images on which F1 is measured. Precision is undefined (None or NaN) without detections, recall
without ground truth, F1 without both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO

from detectron_ext.evaluation.matches import ClassMatches, Matches, chunks

THRESHOLD = 0.5
_GRID = np.arange(5, 100, 5) / 100


class Scored(NamedTuple):
    """Detections or predicted concepts of one class, best score first.

    Attributes:
        scores: (D,) float64, in falling order.
        correct: (D,) bool.
        images: (D,) int64, index of the image among the I images of the data set.
        num_truth: (I,) int64, number of boxes or concepts to find in each image.
    """

    scores: np.ndarray
    correct: np.ndarray
    images: np.ndarray
    num_truth: np.ndarray


def scored_boxes(matches: Matches) -> dict[str, Scored]:
    """Return {class name: detected boxes}, matched to ground truth of all sizes at IoU 0.5."""
    return {
        name: _scored_class(found) for name, found in zip(matches.class_names, matches.areas[0])
    }


def _scored_class(found: ClassMatches) -> Scored:
    kept = ~found.ignored[0]
    return Scored(found.scores[kept], found.matched[0][kept], found.images[kept], found.num_truth)


def scored_concepts(coco_gt: COCO, detections: list, class_names: dict) -> dict[str, Scored]:
    """Return {class name: predicted concepts}.

    Args:
        coco_gt: ground truth; an annotation without iscrowd is not a crowd.
        detections: COCO results on images of coco_gt.
        class_names: category id to name.
    """
    places = {image_id: index for index, image_id in enumerate(sorted(coco_gt.imgs))}
    columns = {category: index for index, category in enumerate(class_names)}
    best = np.full((len(places), len(columns)), -np.inf)
    for found in detections:
        if found["category_id"] in columns:
            where = places[found["image_id"]], columns[found["category_id"]]
            best[where] = max(best[where], found["score"])
    shown, crowded = np.zeros(best.shape, bool), np.zeros(best.shape, bool)
    for annotation in coco_gt.anns.values():
        if annotation["category_id"] in columns and annotation["image_id"] in places:
            where = places[annotation["image_id"]], columns[annotation["category_id"]]
            (crowded if annotation.get("iscrowd") else shown)[where] = True
    best[crowded & ~shown] = -np.inf
    return {
        class_names[category]: _scored_column(best[:, k], shown[:, k])
        for category, k in columns.items()
    }


def _scored_column(best: np.ndarray, shown: np.ndarray) -> Scored:
    images = np.flatnonzero(best > -np.inf)
    images = images[np.argsort(-best[images], kind="mergesort")]
    return Scored(best[images], shown[images], images, shown.astype(np.int64))


def merged(scored: dict[str, Scored]) -> Scored:
    """Return all classes as one, for micro-averages; empty without classes."""
    parts = list(scored.values())
    scores = np.concatenate([part.scores for part in parts] or [np.zeros(0)])
    correct = np.concatenate([part.correct for part in parts] or [np.zeros(0, bool)])
    images = np.concatenate([part.images for part in parts] or [np.zeros(0, np.int64)])
    order = np.argsort(-scores, kind="mergesort")
    num_truth = np.sum([part.num_truth for part in parts], axis=0) if parts else np.zeros(0, int)
    return Scored(scores[order], correct[order], images[order], num_truth)


def resampled_points(
    scored: Scored, weights: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, np.ndarray]:
    """Return precision, recall, F1 and best F1 of resamples of the images.

    Args:
        scored: detections or concepts.
        weights: (B, I) int64, how often each image counts in each of B resamples.
        threshold: detections with this score or more count for precision, recall and F1.

    Returns:
        {precision, recall, f1, best_f1, best_threshold}: (B,) float64 each, NaN if undefined.
    """
    parts = [
        _resampled_points(scored, weights[rows], threshold)
        for rows in chunks(len(weights), len(scored.scores))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _resampled_points(scored: Scored, weights: np.ndarray, threshold: float) -> dict:
    total = (weights @ scored.num_truth).astype(np.float64)
    # Detections with equal scores are taken together, because no threshold separates them.
    ends = np.flatnonzero(np.append(np.diff(scored.scores) != 0, True)[: len(scored.scores)])
    taken = np.cumsum(weights[:, scored.images], axis=1)
    right = np.cumsum(weights[:, scored.images] * scored.correct, axis=1)
    zero = np.zeros((len(weights), 1))
    taken, right = (np.concatenate([zero, x[:, ends]], axis=1) for x in (taken, right))
    chosen = np.searchsorted(-scored.scores[ends], -threshold, side="right")
    f1 = _ratio(2 * right, taken + total[:, None])
    best = np.argmax(np.nan_to_num(f1), axis=1)
    rows = np.arange(len(weights))
    thresholds = np.append(np.nan, scored.scores[ends])
    return {
        "precision": _ratio(right[:, chosen], taken[:, chosen]),
        "recall": _ratio(right[:, chosen], total),
        "f1": f1[:, chosen],
        "best_f1": f1[rows, best],
        "best_threshold": thresholds[best],
    }


def summarise_points(scored: dict[str, Scored], threshold: float = THRESHOLD) -> dict[str, Any]:
    """Summarise all classes together, each class, and the sweep over thresholds.

    Args:
        scored: class name to detections or concepts.
        threshold: threshold of precision, recall and f1.

    Returns:
        A dictionary of score_threshold; precision, recall, f1, best_f1 and best_threshold (numbers
        or None); per_class, the same by class name; and sweep, {threshold, precision, recall, f1},
        lists over the thresholds 0.05, 0.10, ... 0.95.
    """
    whole = merged(scored)
    points = [_point(whole, value) for value in _GRID]
    sweep = {key: [point[key] for point in points] for key in ("precision", "recall", "f1")}
    return {
        "score_threshold": threshold,
        **_point(whole, threshold),
        "per_class": {name: _point(part, threshold) for name, part in scored.items()},
        "sweep": {"threshold": _GRID.tolist(), **sweep},
    }


def _point(scored: Scored, threshold: float) -> dict[str, float | None]:
    once = np.ones((1, np.size(scored.num_truth)), np.int64)
    values = resampled_points(scored, once, threshold)
    return {name: None if np.isnan(v[0]) else float(v[0]) for name, v in values.items()}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole; NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
