"""Training a configuration, and scoring the trained model."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import NamedTuple, Sequence

from detectron_ext import config as configuration
from detectron_ext.commands.score_report import nothing_to_score
from detectron_ext.commands.scoring import detect_and_score, propose_and_score
from detectron_ext.config import Config, reads_proposals
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset, num_objects
from detectron_ext.data.proposals import proposal_paths, with_proposals
from detectron_ext.data.records import check_class_order, check_num_classes
from detectron_ext.engine.checkpoints import FINAL
from detectron_ext.engine.detector import Detector, Proposer
from detectron_ext.engine.memory_estimate import check_memory_of_test
from detectron_ext.engine.process_group import ProcessGroup
from detectron_ext.engine.tensorboard_events import EventFile
from detectron_ext.engine.train import train
from detectron_ext.errors import UserError
from detectron_ext.evaluation.detection_limit import kept_message

_LOG = logging.getLogger(__name__)


class _TestData(NamedTuple):
    """A data set of TEST.DATASETS, read and checked.

    Attributes:
        dataset: the data set.
        proposals_path: its proposals file; None for a model that reads no proposals.
    """

    dataset: CocoDataset
    proposals_path: str | None


def train_and_test(
    config: Config, skip_test: bool = False, group: ProcessGroup | None = None
) -> dict:
    """Train a model, then test its final weights.

    Args:
        config: a merged configuration.
        skip_test: only train.
        group: the processes that train together; None for this process alone. Process 0 tests.

    Returns:
        {data set: results} as :func:`test` returns them; {} with ``skip_test`` and in processes
        other than the first.

    Raises:
        UserError: an error of :func:`detectron_ext.engine.train.train` or of :func:`test`. Errors
            in the data sets to test are raised before the training starts.
    """
    group = group or ProcessGroup()
    group.join(config)
    skip_test = skip_test or not group.is_first
    tested = [] if skip_test else _read_test_data(config)
    _check_images_and_proposals(config, tested)
    classes_by_dataset = _classes_by_dataset(config, tested)
    source = f"TRAIN.DATASETS ({', '.join(config.TRAIN.DATASETS)})"
    weights = train(
        config,
        lambda classes: check_class_order(classes, source, classes_by_dataset),
        group,
    )
    results = {} if skip_test else _test(config, weights, tested)
    if config.LIBRA.TENSORBOARD and results:
        _add_events(os.path.dirname(weights), config.SOLVER.MAX_ITER, results)
    return results


def _add_events(folder: str, step: int, results: dict) -> None:
    """Add the scores of all data sets to the event files of the training."""
    events = EventFile(folder)
    with contextlib.closing(events):
        for name, scores in results.items():
            events.add(step, scores, group=f"test {name}")


def test(config: Config, weights: str = "", image_range: tuple[int, int] | None = None) -> dict:
    """Run the model on every data set of TEST.DATASETS and score its detections or proposals.

    Files are written into ``<OUTPUT_DIR>/test/<data set>/<type>/``:

    - ``results.json``, the scores; not for a data set without annotations.
    - ``detections.json``, COCO results; with VIS also pictures in the folder ``vis``.
    - ``rpn_proposals.pkl`` instead of detections for a model with MODEL.RPN_ONLY. Fast R-CNN can
      read it.

    Args:
        config: a merged configuration.
        weights: a weights file; "" takes TEST.WEIGHTS. If that is empty, too, the final weights of
            the training with this configuration are taken.
        image_range: (first, end) tests only the images first to end - 1 of each data set. The range
            is added to the file names, and nothing is scored.

    Returns:
        {data set: results}. Results are those of
        :func:`detectron_ext.evaluation.scores.score_detections` or, for a model with
        MODEL.RPN_ONLY, :func:`detectron_ext.evaluation.proposal_recall.evaluate_proposals`; {} for
        a data set that is not scored. With ``image_range`` the whole result is {}.

    Raises:
        UserError: the data, the weights or the configuration cannot be used, or a class has another
            number in a data set than in the weights.
    """
    return _test(config, weights, _read_test_data(config), image_range)


def _test(
    config: Config,
    weights: str,
    tested: list[_TestData],
    image_range: tuple[int, int] | None = None,
) -> dict:
    """Test the model on data sets that were read before; see :func:`test`."""
    chosen = [_images_in_range(dataset, image_range) for dataset, _ in tested]
    weights = weights or _trained_weights(config)
    for dataset, _ in tested:
        configuration.future_output_dir(config, (dataset.name,), training=False)
    results = {}
    if config.MODEL.RPN_ONLY:
        proposer = Proposer(config, weights)
        for (dataset, _), image_ids in zip(tested, chosen):
            results[dataset.name] = propose_and_score(
                config, proposer, dataset, image_ids, image_range
            )
    else:
        detector = Detector(config, weights)
        if detector.classes is None:  # as in Detectron's own weights files
            _LOG.warning(
                "%s holds no class names: its class 1 is taken for the first of a data set's "
                "'categories', class 2 for the second, and so on",
                weights,
            )
        classes_by_dataset = _classes_by_dataset(config, tested)
        check_class_order(detector.classes or [], f"weights {weights}", classes_by_dataset)
        for (dataset, path), image_ids in zip(tested, chosen):
            results[dataset.name] = detect_and_score(
                config, detector, dataset, image_ids, image_range, path
            )
    return results if image_range is None else {}


def _read_test_data(config: Config) -> list[_TestData]:
    """Read the data sets of TEST.DATASETS and find their proposals files."""
    names = config.TEST.DATASETS
    if not names:
        raise UserError(
            "TEST.DATASETS is empty: name at least one data set (--skip-test only trains)"
        )
    paths: Sequence[str | None] = [None] * len(names)
    if reads_proposals(config):
        paths = proposal_paths(config.TEST.PROPOSAL_FILES, names, "TEST.PROPOSAL_FILES")
    datasets = [CocoDataset(resolve(name, config)) for name in names]
    for dataset in datasets:
        check_num_classes(config, dataset)
        if dataset.has_annotations and not num_objects(dataset.coco):
            _LOG.warning("%s", nothing_to_score(dataset.name, dataset.coco))
        too_few = kept_message(dataset.coco, config.TEST.DETECTIONS_PER_IM)
        if too_few and not config.MODEL.RPN_ONLY:
            _LOG.warning("%s: %s", dataset.name, too_few)
    return [_TestData(dataset, path) for dataset, path in zip(datasets, paths)]


def _check_images_and_proposals(config: Config, tested: list[_TestData]) -> None:
    """Check images, proposals and the memory before hours of training.

    Otherwise the test after it would end at an error.
    """
    for dataset, path in tested:
        records = dataset.records(False, config, config.LIBRA.DATA.SKIP_BAD_IMAGES)
        if path is not None:
            with_proposals(records, path)
        check_memory_of_test(config, records)


def _classes_by_dataset(config: Config, tested: list[_TestData]) -> dict[str, list]:
    """Return the class names of each data set; {} with MODEL.RPN_ONLY, which has no classes."""
    return {} if config.MODEL.RPN_ONLY else {data.name: data.classes for data, _ in tested}


def _images_in_range(dataset: CocoDataset, image_range: tuple[int, int] | None) -> list:
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


def _trained_weights(config: Config) -> str:
    """Return TEST.WEIGHTS or, if it is empty, the final weights of this configuration's training.

    Raises:
        UserError: TEST.WEIGHTS is empty, and the configuration has not been trained.
    """
    if config.TEST.WEIGHTS:
        return config.TEST.WEIGHTS
    folder = configuration.run_folder(config, config.TRAIN.DATASETS, training=True)
    path = os.path.join(folder, FINAL)
    if not os.path.exists(path):
        raise UserError(f"no weights to test: set TEST.WEIGHTS, or train first ({path} is missing)")
    return path
