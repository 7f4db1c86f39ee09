"""What is said and written of a test's scores."""

from __future__ import annotations

import logging
import os

from pycocotools.coco import COCO

from detectron_ext.config.settings import Settings
from detectron_ext.counted import by_number, counted
from detectron_ext.data.coco_dataset import num_objects
from detectron_ext.evaluation.coco_eval import METRICS
from detectron_ext.evaluation.detection_limit import limit_message
from detectron_ext.evaluation.scores import score_detections
from detectron_ext.output_files import write_json

_LOG = logging.getLogger(__name__)
_HEADLINE = (*METRICS, "AR@100", "AR@1000")


def score_and_say(config: Settings, name: str, truth: COCO, detections: list[dict]) -> dict:
    """Score detections, and say where COCO's limit on their number binds.

    Args:
        config: a merged configuration; it uses LIBRA.EVALUATION.AP_DETECTIONS.
        name: the data set.
        truth: usable annotations of the images that are scored.
        detections: COCO results.

    Returns:
        Results of :func:`detectron_ext.evaluation.scores.score_detections`.

    Raises:
        DatasetError: a detection is in an image that the ground truth does not have.
    """
    limit = config.LIBRA.EVALUATION.AP_DETECTIONS
    binding = limit_message(truth.anns.values(), detections, limit)
    if binding:
        _LOG.warning("%s: %s", name, binding)
    return score_detections(truth, detections, limit)


def report(name: str, folder: str, results: dict, truth: COCO, untested: list) -> dict:
    """Write results.json into a folder, and log the main scores.

    Args:
        name: the data set.
        folder: folder of the test.
        results: the scores.
        truth: usable annotations of the images that are scored.
        untested: ids of the data set's other images.

    Returns:
        The results, with ``untested_images`` if there are any.

    Raises:
        UserError: the file cannot be written.
    """
    if untested:
        results = {**results, "untested_images": untested}
        _LOG.warning(
            "%s: %d of %s %s not tested and not scored; see untested_images in results.json",
            name, len(untested), counted(len(truth.imgs) + len(untested), "image"),
            by_number(len(untested), "was", "were"),
        )  # fmt: skip
    path = os.path.join(folder, "results.json")
    write_json(path, results)
    if num_objects(truth):
        _LOG.info("%s: %s", name, summary(results))
    else:
        _LOG.warning("%s", nothing_to_score(name, truth))
    _LOG.info("written: %s", path)
    return results


def nothing_to_score(name: str, truth: COCO) -> str:
    """Return the message about ground truth without an object.

    Args:
        name: the data set.
        truth: usable annotations of the images that are scored.
    """
    return (
        f"{name}: there is nothing to score, so every AP is undefined: no usable box of an object "
        f"in {counted(len(truth.imgs), 'image')}, {counted(len(truth.anns), 'crowd')}"
    )


def summary(results: dict) -> str:
    """Return the main scores of a test as one line: "AP 0.412  AP50 0.633 ..."."""
    keys = [key for key in results if key in _HEADLINE or key.startswith("AP@")]
    shown = {key: "-" if results[key] is None else f"{results[key]:.3f}" for key in keys}
    return "  ".join(f"{key} {value}" for key, value in shown.items())
