"""The demonstration: two models on the same data, compared on one page."""

from __future__ import annotations

import logging
import os
import time
from typing import Sequence

from detectron_ext import config as configuration
from detectron_ext.commands.pictures import read_picture
from detectron_ext.commands.train_and_test import train_and_test
from detectron_ext.config import Config, value_at
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.coco_folder import find_parts
from detectron_ext.evaluation.detections_file import read_detections
from detectron_ext.evaluation.report import Picture, RunSummary, write_demo_report
from detectron_ext.evaluation.training_log import TrainingLog, read_training_log, training_costs

_LOG = logging.getLogger(__name__)
_NUM_PICTURES = 6
_SHOWN_SETTINGS = (
    "MODEL.CONV_BODY",
    "TRAIN.SCALES",
    "TRAIN.IMS_PER_BATCH",
    "SOLVER.MAX_ITER",
    "SOLVER.BASE_LR",
    "RNG_SEED",
    "LIBRA.BFP.ON",
    "LIBRA.BALANCED_L1.ON",
    "LIBRA.RETINANET_SAMPLER.MODE",
)


def demo(config_files: dict[str, str], output_dir: str, overrides: Sequence = ()) -> str:
    """Train and test each configuration, then write the report.

    Finished runs are not repeated, so a demonstration that was stopped is resumed.

    Args:
        config_files: name of a model in the report to its configuration file.
        output_dir: folder for the runs, one folder each, and for ``report.html`` and its pictures.
        overrides: KEY VALUE pairs for every configuration.

    Returns:
        Path of the report.

    Raises:
        UserError: the folder has runs with other settings, or an error of
            :func:`detectron_ext.commands.train_and_test.train_and_test`.
    """
    configs = {
        name: configuration.load(path, [*overrides, "OUTPUT_DIR", _run_dir(output_dir, path)])
        for name, path in config_files.items()
    }
    runs = []
    for number, (name, config) in enumerate(configs.items(), start=1):
        _LOG.info("model %d of %d: %s", number, len(configs), name)
        runs.append(_run(name, config))
    return write_demo_report(output_dir, runs)


def photograph_settings(folder: str) -> list:
    """Return the KEY VALUE pairs that make a configuration train on a folder of photographs.

    Args:
        folder: see :func:`detectron_ext.data.coco_folder.find_parts`.

    Raises:
        DatasetError: the folder or an annotation file is missing or wrong.
    """
    train, val = find_parts(folder)
    entries = {each.name: {"im_dir": each.im_dir, "ann_fn": each.ann_fn} for each in (train, val)}
    return [
        "DATASETS_EXTRA", entries,
        "TRAIN.DATASETS", (train.name,),
        "TEST.DATASETS", (val.name,),
        "MODEL.NUM_CLASSES", CocoDataset(train).num_classes,
    ]  # fmt: skip


def _run_dir(output_dir: str, config_file: str) -> str:
    return os.path.join(output_dir, os.path.splitext(os.path.basename(config_file))[0])


def _run(name: str, config: Config) -> RunSummary:
    started = time.perf_counter()
    results = train_and_test(config)
    _LOG.info("%s: %.0f s with its test", name, time.perf_counter() - started)
    dataset = CocoDataset(resolve(config.TEST.DATASETS[0], config))
    log = _training_log(config)
    return RunSummary(
        name=name,
        config={key: value_at(config, key) for key in _SHOWN_SETTINGS},
        results=results[dataset.name],
        stats=log.entries,
        train_seconds=training_costs(log)["training_seconds"],
        pictures=_pictures(config, dataset),
        class_names={key: category["name"] for key, category in dataset.coco.cats.items()},
    )


def _training_log(config: Config) -> TrainingLog:
    folder = configuration.run_folder(config, config.TRAIN.DATASETS, training=True)
    return read_training_log(os.path.join(folder, "stats.jsonl"))


def _pictures(config: Config, dataset: CocoDataset) -> list[Picture]:
    """Return the first test images that can be read, with ground truth and detections."""
    folder = configuration.run_folder(config, (dataset.name,), training=False)
    detections = read_detections(os.path.join(folder, "detections.json"))
    pictures = []
    for image_id in sorted(dataset.coco.imgs)[:_NUM_PICTURES]:
        image = read_picture(dataset, image_id, config.LIBRA.DATA.DEEP_IMAGES)
        if image is None:
            continue
        picture = Picture(
            name=dataset.coco.imgs[image_id]["file_name"],
            image=image,
            truth=dataset.coco.imgToAnns[image_id],
            detections=[found for found in detections if found["image_id"] == image_id],
        )
        pictures.append(picture)
    return pictures
