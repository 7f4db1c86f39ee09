"""Running a model on one data set: its detections or proposals are written and scored."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Iterator

from detectron_ext import config as configuration
from detectron_ext.commands.pictures import draw_detections
from detectron_ext.commands.score_report import report, score_and_say
from detectron_ext.config import Config
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.proposals import write_proposals
from detectron_ext.engine.detector import Detector, Proposer
from detectron_ext.engine.inference import (
    Tested,
    detect_dataset,
    propose_dataset,
    records_to_test,
)
from detectron_ext.evaluation.coco_eval import without_images
from detectron_ext.evaluation.proposal_recall import evaluate_proposals
from detectron_ext.evaluation.tested_parts import untested_name
from detectron_ext.output_files import write_json, write_json_list
from detectron_ext.output_lock import locked_folder

_LOG = logging.getLogger(__name__)


def detect_and_score(
    config: Config,
    detector: Detector,
    dataset: CocoDataset,
    image_ids: list,
    image_range: tuple | None = None,
    proposals_path: str | None = None,
) -> dict:
    """Detect objects in a data set, write the detections and score them.

    :func:`detectron_ext.commands.train_and_test.test` tells which files are written.

    Args:
        config: a merged configuration.
        detector: the model.
        dataset: the data set; its classes must be those of the model.
        image_ids: ids of the images to test.
        image_range: (first, end), the positions of the images in the data set if they are only a
            part of it. Then nothing is scored.
        proposals_path: proposals file for Fast R-CNN; None for other models.

    Returns:
        Results of :func:`detectron_ext.evaluation.scores.score_detections` on the images that were
        tested. ``untested_images`` lists the ids of skipped images, if there are any. The result is
        {} for a range of images and for a data set without annotations, which are not scored.

    Raises:
        UserError: an image or proposal cannot be read, or a file cannot be written.
    """
    records = records_to_test(config, dataset, image_ids, proposals_path)
    with _folder(config, dataset, image_range) as folder:
        tested = detect_dataset(config, detector, dataset, image_ids, records)
        return _write_detections(config, dataset, image_ids, image_range, folder, tested)


def _write_detections(
    config: Config,
    dataset: CocoDataset,
    image_ids: list,
    image_range: tuple | None,
    folder: str,
    tested: Tested,
) -> dict:
    """Write detections, scores and pictures into a folder; return the scores."""
    detections = tested.found
    path = _path(folder, "detections", "json", image_range)
    write_json_list(path, detections)
    _LOG.info("written: %s", path)
    _write_untested(folder, image_range, tested.untested)
    results: dict = {}
    if _is_scored(dataset, image_range):
        truth = without_images(dataset.coco, tested.untested)
        results = score_and_say(config, dataset.name, truth, detections)
        results = report(dataset.name, folder, results, truth, tested.untested)
    # Pictures are large. They come last, so that a full disk costs no results.
    if config.VIS:
        _draw(config, dataset, detections, os.path.join(folder, "vis"), image_ids)
    return results


def _draw(
    config: Config, dataset: CocoDataset, detections: list, folder: str, image_ids: list
) -> None:
    deep = config.LIBRA.DATA.DEEP_IMAGES
    draw_detections(dataset, detections, folder, config.VIS_TH, image_ids, deep)


def propose_and_score(
    config: Config,
    proposer: Proposer,
    dataset: CocoDataset,
    image_ids: list,
    image_range: tuple | None = None,
) -> dict:
    """Propose regions in a data set, write the proposals and score them.

    Args:
        config: a merged configuration with MODEL.RPN_ONLY.
        proposer: the model.
        dataset, image_ids, image_range: see :func:`detect_and_score`.

    Returns:
        Results of :func:`detectron_ext.evaluation.proposal_recall.evaluate_proposals`;
        ``untested_images`` and {} as in :func:`detect_and_score`.

    Raises:
        UserError: an image cannot be read, or a file cannot be written.
    """
    records = records_to_test(config, dataset, image_ids)
    with _folder(config, dataset, image_range) as folder:
        tested = propose_dataset(config, proposer, dataset, image_ids, records)
        return _write_proposals(config, dataset, image_range, folder, tested)


def _write_proposals(
    config: Config, dataset: CocoDataset, image_range: tuple | None, folder: str, tested: Tested
) -> dict:
    """Write proposals and their scores into a folder; return the scores."""
    proposals, untested = tested
    path = _path(folder, "rpn_proposals", "pkl", image_range)
    found_ids, boxes, scores = ([found[part] for found in proposals] for part in range(3))
    write_proposals(path, found_ids, boxes, scores, configuration.dump_yaml(config))
    _LOG.info("written: %s", path)
    _write_untested(folder, image_range, untested)
    if not _is_scored(dataset, image_range):
        return {}
    truth = without_images(dataset.coco, untested)
    found = [found for found in proposals if found.image_id in truth.imgs]
    return report(dataset.name, folder, evaluate_proposals(truth, found), truth, untested)


@contextlib.contextmanager
def _folder(config: Config, dataset: CocoDataset, image_range: tuple | None) -> Iterator[str]:
    """Make and lock the folder of a test; several processes may test parts of a data set in it."""
    folder = configuration.output_dir(config, (dataset.name,), training=False)
    with locked_folder(folder, shared=image_range is not None):
        yield folder


def _path(folder: str, name: str, extension: str, image_range: tuple | None) -> str:
    part = "" if image_range is None else "_range_{}_{}".format(*image_range)
    return os.path.join(folder, f"{name}{part}.{extension}")


def _write_untested(folder: str, image_range: tuple | None, untested: list) -> None:
    """List the images that the test of a part skipped, for the merging of parts."""
    if image_range is not None:
        write_json(os.path.join(folder, untested_name(*image_range)), untested)


def _is_scored(dataset: CocoDataset, image_range: tuple | None) -> bool:
    if image_range is None and not dataset.has_annotations:
        _LOG.warning(
            "%s: not scored, because its annotation file has no 'annotations'", dataset.name
        )
    return image_range is None and dataset.has_annotations
