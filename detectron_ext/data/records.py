"""The training images of a run: data sets are combined, filtered and mirrored."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Sequence

from detectron_ext.config import ignores_crowd_anchors, reads_proposals
from detectron_ext.counted import counted
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.image_record import ImageRecord, flip_horizontally
from detectron_ext.data.proposals import proposal_paths, with_proposals
from detectron_ext.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

__all__ = [
    "ImageRecord",
    "check_class_order",
    "check_num_classes",
    "flip_horizontally",
    "training_records",
]

_LOG = logging.getLogger(__name__)


def training_records(
    names: str | Sequence[str], config: Settings, proposal_files: Sequence[str] | None = None
) -> tuple[list[ImageRecord], list[CocoDataset]]:
    """Return the records of one or more data sets for training.

    With TRAIN.USE_FLIPPED every image is added a second time, mirrored. Images without objects (no
    annotations, or only crowds) are left out, as in Detectron. With LIBRA.DATA.KEEP_EMPTY_IMAGES
    those without annotations stay.

    Args:
        names: a catalog name or several, as in TRAIN.DATASETS.
        config: a merged configuration. It uses TRAIN.USE_FLIPPED, TRAIN.GT_MIN_AREA,
            MODEL.NUM_CLASSES, DATASETS_EXTRA and LIBRA.DATA.
        proposal_files: proposals files, one for each name; None gives records without proposals.

    Returns:
        records: the records of all data sets.
        datasets: the data sets, in the order of ``names``.

    Raises:
        DatasetError: a data set or its proposals cannot be read, their classes differ, or nothing
            is left.
        ConfigError: MODEL.NUM_CLASSES does not match the data sets.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise DatasetError("TRAIN.DATASETS is empty: name at least one data set")
    paths: Sequence[str | None] = [None] * len(names)
    if proposal_files is not None:
        paths = proposal_paths(proposal_files, names, "TRAIN.PROPOSAL_FILES")
    datasets = [CocoDataset(resolve(name, config)) for name in names]
    check_same_classes(datasets)
    check_num_classes(config, datasets[0])
    records: list[ImageRecord] = []
    for dataset, path in zip(datasets, paths):
        images = dataset.records(True, config, config.LIBRA.DATA.SKIP_BAD_IMAGES)
        empty = {r.image_id for r in images if dataset.is_empty(r.image_id)}
        kept = empty if config.LIBRA.DATA.KEEP_EMPTY_IMAGES else ()
        usable = [r for r in images if r.has_ground_truth or r.image_id in kept]
        if path is not None:
            usable = with_proposals(usable, path)
        flipped = [flip_horizontally(r) for r in usable] if config.TRAIN.USE_FLIPPED else []
        records += usable + flipped
        _LOG.info(
            "%s: %s, %d without ground truth left out, %d flipped added, %s%s",
            dataset.name,
            counted(len(images), "image"),
            len(images) - len(usable),
            len(flipped),
            counted(sum(len(record.boxes) for record in usable), "box", "boxes"),
            _about_empty_images(len(empty), bool(kept)),
        )
        _say_what_crowds_are(dataset.name, usable, config)
    if not any(record.has_ground_truth for record in records):
        raise DatasetError(f"{', '.join(names)}: no image has a ground-truth box to train on")
    return records, datasets


def _about_empty_images(number: int, kept: bool) -> str:
    if not number:
        return ""
    if kept:
        return f"; {counted(number, 'image')} without annotations kept as background"
    return f"; LIBRA.DATA.KEEP_EMPTY_IMAGES True keeps {number} as background"


def _say_what_crowds_are(name: str, records: Sequence[ImageRecord], config: Settings) -> None:
    number = sum(int(record.is_crowd.sum()) for record in records)
    if number and not reads_proposals(config) and not ignores_crowd_anchors(config):
        _LOG.info(
            "%s: anchors inside its %s are background, as in Detectron; "
            "LIBRA.IGNORE_CROWD_ANCHORS True ignores them",
            name,
            counted(number, "crowd box", "crowd boxes"),
        )


def check_same_classes(datasets: Sequence[CocoDataset]) -> None:
    """Raise DatasetError unless all data sets have the same classes in the same order."""
    first = datasets[0]
    for other in datasets[1:]:
        if other.classes != first.classes:
            differences = _differences(first.classes, other.classes)
            raise DatasetError(
                f"data sets {first.name} and {other.name} cannot be combined: their classes are "
                f"{_class_list(first)} and {_class_list(other)}"
                + (f"; {differences} in {other.name}" if differences else "")
            )


def check_num_classes(config: Settings, dataset: CocoDataset) -> None:
    """Raise ConfigError unless MODEL.NUM_CLASSES is the data set's number of classes plus 1."""
    if dataset.num_classes != config.MODEL.NUM_CLASSES:
        raise ConfigError(
            f"MODEL.NUM_CLASSES is {config.MODEL.NUM_CLASSES}, but data set {dataset.name} needs "
            f"{dataset.num_classes}: background and {_class_list(dataset)}"
        )


def check_class_order(classes: Sequence[str], source: str, tested: dict[str, list]) -> None:
    """Check that class numbers mean the same in a model and in the data sets to test.

    A class whose name differs is only a warning, because converted weights may spell it otherwise.

    Args:
        classes: the model's class names, background first.
        source: where these names come from, for messages, such as "weights w.pkl".
        tested: name of a data set to its class names, background first.

    Raises:
        DatasetError: a class has another number in a data set, so that scores would be wrong. The
            message names every class that differs, in all data sets.
    """
    wrong = []
    for dataset, others in tested.items():
        pairs = [pair for pair in zip(classes, others) if pair[0] != pair[1]]
        if not pairs:
            continue
        where = f"{_differences(classes, others)} in data set {dataset}"
        if any(name in others or other in classes for name, other in pairs):
            wrong.append(where)
        else:
            _LOG.warning("%s, compared with %s: each is scored as the same class", where, source)
    if wrong:
        raise DatasetError(
            f"{'; '.join(wrong)}, in another order than in {source}: list the 'categories' of its "
            "annotation file in the same order"
        )


def _differences(classes: Sequence[str], others: Sequence[str]) -> str:
    """Return each class that has another name in a second list, as text."""
    return ", ".join(
        f"class {number} is {other} instead of {name}"
        for number, (name, other) in enumerate(zip(classes, others))
        if name != other
    )


def _class_list(dataset: CocoDataset, longest: int = 10) -> str:
    names = dataset.classes[1:]
    more = f", ... ({len(names)} classes)" if len(names) > longest else ""
    return "[" + ", ".join(names[:longest]) + more + "]"
