"""Running a model on one data set: its detections or proposals are written and scored."""

from __future__ import annotations

import logging
import os

from detectron_ext import config as configuration
from detectron_ext.commands.pictures import draw_detections
from detectron_ext.config import Config
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.proposals import write_proposals
from detectron_ext.engine.detector import Detector, Proposer
from detectron_ext.engine.inference import detect_dataset, propose_dataset, records_to_test
from detectron_ext.evaluation.coco_eval import without_images
from detectron_ext.evaluation.proposal_recall import evaluate_proposals
from detectron_ext.evaluation.scores import score_detections
from detectron_ext.output_files import write_json, write_json_list

_LOG = logging.getLogger(__name__)
_HEADLINE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@100", "AR@1000")


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
    folder = _folder(config, dataset)
    tested = detect_dataset(config, detector, dataset, image_ids, records)
    detections = tested.found
    if config.VIS:
        pictures = os.path.join(folder, "vis")
        draw_detections(
            dataset, detections, pictures, config.VIS_TH, image_ids, config.LIBRA.DATA.DEEP_IMAGES
        )
    path = _path(folder, "detections", "json", image_range)
    write_json_list(path, detections)
    _LOG.info("written: %s", path)
    if not _is_scored(dataset, image_range):
        return {}
    truth = without_images(dataset.coco, tested.untested)
    return _report(dataset, folder, score_detections(truth, detections), tested.untested)


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
    folder = _folder(config, dataset)
    proposals, untested = propose_dataset(config, proposer, dataset, image_ids, records)
    path = _path(folder, "rpn_proposals", "pkl", image_range)
    found_ids, boxes, scores = ([found[part] for found in proposals] for part in range(3))
    write_proposals(path, found_ids, boxes, scores, configuration.dump_yaml(config))
    _LOG.info("written: %s", path)
    if not _is_scored(dataset, image_range):
        return {}
    truth = without_images(dataset.coco, untested)
    found = [found for found in proposals if found.image_id in truth.imgs]
    return _report(dataset, folder, evaluate_proposals(truth, found), untested)


def _folder(config: Config, dataset: CocoDataset) -> str:
    return configuration.output_dir(config, (dataset.name,), training=False)


def _path(folder: str, name: str, extension: str, image_range: tuple | None) -> str:
    part = "" if image_range is None else "_range_{}_{}".format(*image_range)
    return os.path.join(folder, f"{name}{part}.{extension}")


def _is_scored(dataset: CocoDataset, image_range: tuple | None) -> bool:
    if image_range is None and not dataset.has_annotations:
        _LOG.warning(
            "%s: not scored, because its annotation file has no 'annotations'", dataset.name
        )
    return image_range is None and dataset.has_annotations


def _report(dataset: CocoDataset, folder: str, results: dict, untested: list) -> dict:
    if untested:
        results = {**results, "untested_images": untested}
        _LOG.warning(
            "%s: %d of %d images were not tested and are not scored; see untested_images in "
            "results.json", dataset.name, len(untested), len(dataset.image_ids()),
        )  # fmt: skip
    path = os.path.join(folder, "results.json")
    write_json(path, results)
    _LOG.info("%s: %s", dataset.name, summary(results))
    _LOG.info("written: %s", path)
    return results


def summary(results: dict) -> str:
    """Return the main scores of a test as one line: "AP 0.412  AP50 0.633 ..."."""
    keys = [key for key in _HEADLINE if key in results]
    shown = {key: "-" if results[key] is None else f"{results[key]:.3f}" for key in keys}
    return "  ".join(f"{key} {value}" for key, value in shown.items())
