"""Compares an exported ONNX model with the detector that it was made from, on images."""

from __future__ import annotations

import time
from typing import Callable, Mapping, NamedTuple

import numpy as np

from detectron_ext.config import Config
from detectron_ext.counted import counted
from detectron_ext.deployment.onnx_detector import OnnxDetector
from detectron_ext.engine.detector import Detector
from detectron_ext.errors import UserError

LEAST_SCORE = 0.05
"""Detections with lower scores are not looked for."""

CORNERS, SCORES = 0.05, 1e-4
"""The largest differences of equal detections: of corners, in pixels, and of scores."""

_RUNS = 3


class Difference(NamedTuple):
    """What was compared on one image or on several.

    Attributes:
        detections: number of the detector's detections above LEAST_SCORE.
        missing: how many of them the ONNX model does not have.
        more: how many detections above LEAST_SCORE the ONNX model has and the detector does not.
        corners: largest difference of the corners of equal detections, in pixels.
        scores: largest difference of their scores.
    """

    detections: int = 0
    missing: int = 0
    more: int = 0
    corners: float = 0.0
    scores: float = 0.0

    def joined(self, other: Difference) -> Difference:
        """Return the difference on both's images."""
        counts = (a + b for a, b in zip(self[:3], other[:3]))
        return Difference(*counts, *map(max, self[3:], other[3:]))


def difference(expected: np.ndarray, found: np.ndarray) -> Difference:
    """Compare the detections of an image.

    Each detection is paired with at most one of the other side, of the same class and within
    CORNERS and SCORES. A detection above LEAST_SCORE may be paired with one just below it.

    Args:
        expected: (D, 6) the detector's rows x1, y1, x2, y2, score, class.
        found: (E, 6) those of the ONNX model.
    """
    free = np.ones(len(found), dtype=bool)
    missing, corners, scores = 0, 0.0, 0.0
    for row in expected:
        errors = np.abs(found - row)
        same = (errors[:, :4].max(axis=1, initial=0) <= CORNERS) & (errors[:, 4] <= SCORES)
        matches = np.flatnonzero(same & (errors[:, 5] == 0) & free)
        if len(matches):
            nearest = matches[np.argmin(errors[matches, :4].max(axis=1))]
            free[nearest] = False
            corners = max(corners, float(errors[nearest, :4].max()))
            scores = max(scores, float(errors[nearest, 4]))
        elif row[4] > LEAST_SCORE:
            missing += 1
    more = int((free & (found[:, 4] > LEAST_SCORE)).sum())
    return Difference(int((expected[:, 4] > LEAST_SCORE).sum()), missing, more, corners, scores)


def check_onnx(config: Config, weights: str, path: str, images: Mapping[str, np.ndarray]) -> None:
    """Run both on images, print differences and times, and raise an error if they differ.

    The two sides take turns, and each time is the median over the runs on all images. The first
    image is run once by each side before, without being timed.

    Args:
        config: the configuration that was exported, with NUM_GPUS 0.
        weights: the weights that were exported.
        path: the ONNX model.
        images: name of an image to (height, width, 3) uint8, BGR.

    Raises:
        UserError: detections differ, or the weights or the model cannot be used.
    """
    detector, exported = Detector(config, weights), OnnxDetector(path)
    total = Difference()
    times: dict[str, list[float]] = {"Caffe2": [], "onnxruntime": []}
    for number, (name, image) in enumerate(images.items()):
        if number == 0:
            detector(image), exported(image)
        for _ in range(_RUNS):
            expected = _timed(detector, image, times["Caffe2"])
            found = _timed(exported, image, times["onnxruntime"])
        one = difference(expected, found)
        total = total.joined(one)
        print(f"{name}: {_text(one)}")
    seconds = ", ".join(f"{side} {np.median(taken):.3f} s" for side, taken in times.items())
    print(f"{counted(len(images), 'image')}: {_text(total)}; {seconds} for an image")
    if total.missing or total.more:
        raise UserError(
            f"{path} does not find what the detector finds: {total.missing} missing and "
            f"{total.more} more of {counted(total.detections, 'detection')}; please report it with "
            "the configuration"
        )


def _timed(
    detect: Callable[[np.ndarray], np.ndarray], image: np.ndarray, seconds: list[float]
) -> np.ndarray:
    started = time.perf_counter()
    detections = detect(image)
    seconds.append(time.perf_counter() - started)
    return detections


def _text(result: Difference) -> str:
    found = result.detections - result.missing
    return (
        f"{found} of {counted(result.detections, 'detection')} above {LEAST_SCORE} found, "
        f"{result.more} more; corners differ by at most {result.corners:.1e} pixels, scores by "
        f"{result.scores:.1e}"
    )
