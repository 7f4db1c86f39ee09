"""Training a configuration and scoring what it learnt."""

from __future__ import annotations

import logging
import os

from detectron_ext import config as configuration
from detectron_ext.commands.pictures import draw_detections
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.records import check_num_classes
from detectron_ext.engine.checkpoints import FINAL
from detectron_ext.engine.detector import Detector
from detectron_ext.engine.test import detect_dataset
from detectron_ext.engine.train import train
from detectron_ext.errors import UserError
from detectron_ext.evaluation.coco_eval import evaluate_detections, write_results

_LOG = logging.getLogger(__name__)


def train_and_test(config, skip_test: bool = False) -> dict:
    """Train, then test the final weights; returns results by data set, as :func:`test` does."""
    if not skip_test:
        # A wrong test set is better found now than after hours of training.
        for dataset in _open_test_datasets(config):
            dataset.records(False, config, config.LIBRA.DATA.SKIP_BAD_IMAGES)
    weights = train(config)
    return {} if skip_test else test(config, weights)


def test(config, weights: str = "", image_range: tuple | None = None) -> dict:
    """Detect and score every data set of TEST.DATASETS.

    Writes ``detections.json`` (COCO results) and ``results.json`` (AP figures) into
    ``<OUTPUT_DIR>/test/<data set>/<type>/``; with VIS also pictures in its folder ``vis``.

    Args:
        config: a merged configuration.
        weights: a weights file; "" takes TEST.WEIGHTS, else the run's own final weights.
        image_range: test only these images (first, one after the last): detections are written to
            a file named for the range and nothing is scored.

    Returns:
        {data set: results}, see :func:`detectron_ext.evaluation.coco_eval.evaluate_detections`.

    Raises:
        UserError: bad data, weights or configuration.
    """
    datasets = _open_test_datasets(config)
    chosen = {dataset.name: _images_in_range(dataset, image_range) for dataset in datasets}
    detector = Detector(config, weights or _trained_weights(config))
    results = {}
    for dataset in datasets:
        folder = configuration.output_dir(config, (dataset.name,), training=False)
        image_ids = chosen[dataset.name]
        detections = detect_dataset(config, detector, dataset, image_ids)
        if config.VIS:
            pictures = os.path.join(folder, "vis")
            draw_detections(dataset, detections, pictures, config.VIS_TH, image_ids)
        if image_range is None:
            results[dataset.name] = _score(dataset, detections, folder)
        else:
            path = os.path.join(folder, "detections_range_{}_{}.json".format(*image_range))
            write_results(path, detections)
            _LOG.info("written: %s", path)
    return results


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


def _score(dataset, detections, folder) -> dict:
    write_results(os.path.join(folder, "detections.json"), detections)
    results = evaluate_detections(dataset.coco, detections)
    path = os.path.join(folder, "results.json")
    write_results(path, results)
    _LOG.info("%s: %s", dataset.name, summary(results))
    _LOG.info("written: %s", path)
    return results


def summary(results: dict) -> str:
    """One line of a test's AP figures."""
    keys = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    shown = {key: "-" if results[key] is None else f"{results[key]:.3f}" for key in keys}
    return "  ".join(f"{key} {value}" for key, value in shown.items())


def _trained_weights(config) -> str:
    """TEST.WEIGHTS, or the final weights that training with this configuration leaves."""
    if config.TEST.WEIGHTS:
        return config.TEST.WEIGHTS
    folder = configuration.output_dir(config, config.TRAIN.DATASETS, training=True)
    path = os.path.join(folder, FINAL)
    if not os.path.exists(path):
        raise UserError(f"no weights to test: set TEST.WEIGHTS, or train first ({path} is missing)")
    return path
