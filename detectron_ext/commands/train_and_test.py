"""Training a configuration and scoring what it learnt."""

from __future__ import annotations

import logging
import os

from detectron_ext import config as configuration
from detectron_ext.commands.scoring import detect_and_score, propose_and_score
from detectron_ext.config import reads_proposals
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.proposals import proposal_paths
from detectron_ext.data.records import check_class_order, check_num_classes
from detectron_ext.engine.checkpoints import FINAL
from detectron_ext.engine.detector import Detector, Proposer
from detectron_ext.engine.train import train
from detectron_ext.errors import UserError

_LOG = logging.getLogger(__name__)


def train_and_test(config, skip_test: bool = False) -> dict:
    """Train, then test the final weights; returns results by data set, as :func:`test` does."""
    # A wrong test set is better found now than after hours of training.
    tested = {} if skip_test else _check_test_datasets(config)
    source = f"TRAIN.DATASETS ({', '.join(config.TRAIN.DATASETS)})"
    weights = train(config, lambda classes: check_class_order(classes, source, tested))
    return {} if skip_test else test(config, weights)


def _check_test_datasets(config) -> dict:
    """Classes of each data set that can be tested; none of an RPN alone, which has no classes."""
    _proposal_paths(config)
    datasets = _open_test_datasets(config)
    for dataset in datasets:
        dataset.records(False, config, config.LIBRA.DATA.SKIP_BAD_IMAGES)
    return {} if config.MODEL.RPN_ONLY else {dataset.name: dataset.classes for dataset in datasets}


def test(config, weights: str = "", image_range: tuple | None = None) -> dict:
    """Run the model on every data set of TEST.DATASETS and score what it finds.

    Writes into ``<OUTPUT_DIR>/test/<data set>/<type>/`` ``results.json`` and, of a detector,
    ``detections.json`` (COCO results), with VIS also pictures in the folder ``vis``; of an RPN
    alone (MODEL.RPN_ONLY) ``rpn_proposals.pkl``, which Fast R-CNN reads. A data set without
    annotations is not scored, and has no ``results.json``.

    Args:
        config: a merged configuration.
        weights: a weights file; "" takes TEST.WEIGHTS, else the run's own final weights.
        image_range: test only these images (first, one after the last): what is found is written to
            a file named for the range, and nothing is scored.

    Returns:
        {data set: results}, as :func:`detectron_ext.evaluation.scores.score_detections` returns
        them, or :func:`detectron_ext.evaluation.proposal_recall.evaluate_proposals`; {} where it is
        not scored.

    Raises:
        UserError: bad data, weights or configuration; a class with another number in a data set
            than in the weights.
    """
    datasets = _open_test_datasets(config)
    paths = _proposal_paths(config)
    chosen = [_images_in_range(dataset, image_range) for dataset in datasets]
    weights = weights or _trained_weights(config)
    results = {}
    if config.MODEL.RPN_ONLY:
        proposer = Proposer(config, weights)
        for dataset, image_ids in zip(datasets, chosen):
            results[dataset.name] = propose_and_score(
                config, proposer, dataset, image_ids, image_range
            )
    else:
        detector = Detector(config, weights)
        # Detectron's weights do not say which class is which: then there is nothing to compare.
        tested = {dataset.name: dataset.classes for dataset in datasets}
        check_class_order(detector.classes or [], f"weights {weights}", tested)
        for dataset, image_ids, path in zip(datasets, chosen, paths):
            results[dataset.name] = detect_and_score(
                config, detector, dataset, image_ids, image_range, path
            )
    return results if image_range is None else {}


def _proposal_paths(config) -> list:
    """The proposals file of each data set; None where proposals are not read."""
    names = config.TEST.DATASETS
    if not reads_proposals(config):
        return [None] * len(names)
    return proposal_paths(config.TEST.PROPOSAL_FILES, names, "TEST.PROPOSAL_FILES")


def _open_test_datasets(config) -> list:
    if not config.TEST.DATASETS:
        raise UserError(
            "TEST.DATASETS is empty: name at least one data set (--skip-test only trains)"
        )
    datasets = [CocoDataset(resolve(name, config)) for name in config.TEST.DATASETS]
    for dataset in datasets:
        check_num_classes(config, dataset)
    return datasets


def _images_in_range(dataset, image_range) -> list:
    image_ids = dataset.image_ids()
    if image_range is None:
        return image_ids
    start, end = image_range
    if not 0 <= start < min(end, len(image_ids)):
        raise UserError(
            f"range {start} {end} holds no image: data set {dataset.name} has images 0 to "
            f"{len(image_ids) - 1}, and the end is not included"
        )
    return image_ids[start:end]


def _trained_weights(config) -> str:
    """TEST.WEIGHTS, or the final weights that training with this configuration leaves."""
    if config.TEST.WEIGHTS:
        return config.TEST.WEIGHTS
    folder = configuration.output_dir(config, config.TRAIN.DATASETS, training=True)
    path = os.path.join(folder, FINAL)
    if not os.path.exists(path):
        raise UserError(f"no weights to test: set TEST.WEIGHTS, or train first ({path} is missing)")
    return path
