"""Checking the data sets of a configuration before it is trained or tested."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from typing import Callable, Iterator, Sequence

import numpy as np

from detectron_ext.config import Config
from detectron_ext.counted import by_number, counted
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.exif import (
    either_way_message,
    files_that_fit_either_way,
    warn_no_more,
)
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.records import check_class_order, check_num_classes, check_same_classes
from detectron_ext.data.size_limit import size_limit_message
from detectron_ext.data_check.annotation_checks import check_annotations
from detectron_ext.data_check.annotation_table import AnnotationTable, count_lines
from detectron_ext.data_check.decoded_pictures import decode_pictures
from detectron_ext.data_check.finding import MAX_CASES, NO_BOXES, Case, Finding
from detectron_ext.data_check.page import CheckedDataset, write_page
from detectron_ext.data_check.repair import repaired
from detectron_ext.data_check.same_images import (
    ImageFile,
    equal_files,
    missing_files,
    same_image_findings,
)
from detectron_ext.errors import UserError
from detectron_ext.output_files import check_writable_folder, make_writable_folder, write_json
from detectron_ext.sampling.anchor_coverage import Coverage, anchor_coverage
from detectron_ext.sampling.coverage_report import (
    coverage_summary,
    coverage_warnings,
    no_coverage_reason,
)

PAGE = "check_data.html"
_READER = "detectron_ext.data"
_ADVICE = "choose another folder"


def check_data(config: Config, output_dir: str, fix: str = "", decode: bool = False) -> int:
    """Check the data sets of a configuration, print counts and findings, and write a page.

    The annotations are read as training and testing read them. What the reader warns of is a
    finding, and so is what is suspicious beyond that.

    Args:
        config: a merged configuration.
        output_dir: folder for the page; it is made if needed.
        fix: file for annotations without the faults that have only one remedy; "" writes none. If
            the configuration names several data sets, ``out.json`` becomes ``out_<name>.json``.
        decode: also decode every picture. That finds those that cannot be read, and images that
            are nearly the same although their files differ.

    Returns:
        Number of findings.

    Raises:
        UserError: there are no data sets, a data set cannot be read, or a file cannot be written.
    """
    trained, tested = tuple(config.TRAIN.DATASETS), tuple(config.TEST.DATASETS)
    names = list(dict.fromkeys((*trained, *tested)))
    if not names:
        raise UserError("TRAIN.DATASETS and TEST.DATASETS are empty: name at least one data set")
    check_writable_folder(output_dir, "the page to folder", _ADVICE)
    findings: list[Finding] = []
    datasets: dict[str, CocoDataset] = {}
    for name in names:
        with _reader_warnings(findings):
            datasets[name] = CocoDataset(resolve(name, config))
    findings += _class_findings(config, datasets, trained, tested)
    checked = [_check(dataset, config, findings) for dataset in datasets.values()]
    files = [
        ImageFile(name, image_id, dataset.image_path(image_id))
        for name, dataset in datasets.items()
        for image_id in dataset.image_ids()
    ]
    missing = missing_files(files)
    findings += _missing_findings(missing, files)
    for dataset in datasets.values():
        findings += _turned_findings(dataset)
    similar: list[list[ImageFile]] = []
    if decode:
        gone = {(file.dataset, file.image_id) for file in missing}
        records = [
            record
            for dataset in datasets.values()
            for record in dataset.records(False, config, check_files=False)
            if (record.dataset_name, record.image_id) not in gone
        ]
        unreadable, similar = decode_pictures(records, config.LIBRA.DATA.DEEP_IMAGES)
        findings += unreadable
    findings += same_image_findings(equal_files(files), similar, trained, tested)
    _print(checked, findings)
    make_writable_folder(output_dir, "the page to folder", _ADVICE)
    path = os.path.join(output_dir, PAGE)
    write_page(path, checked, findings)
    print(f"written: {path}")
    if fix:
        _write_repaired(checked, missing, fix)
    return len(findings)


class _Collector(logging.Handler):
    """Turns warnings into findings."""

    def __init__(self, findings: list[Finding]):
        super().__init__(logging.WARNING)
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        self._findings.append(Finding(record.getMessage()))


@contextlib.contextmanager
def _reader_warnings(findings: list[Finding]) -> Iterator[None]:
    """Add what the reader warns of to the findings instead of printing it."""
    logger, collector = logging.getLogger(_READER), _Collector(findings)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


def _as_finding(check: Callable[[], None], findings: list[Finding]) -> None:
    """Run a check that training or testing makes; its error is a finding here."""
    try:
        with _reader_warnings(findings):
            check()
    except UserError as error:
        findings.append(Finding(str(error)))


def _class_findings(
    config: Config, datasets: dict[str, CocoDataset], trained: Sequence[str], tested: Sequence[str]
) -> list[Finding]:
    findings: list[Finding] = []
    if len(trained) > 1:
        _as_finding(lambda: check_same_classes([datasets[name] for name in trained]), findings)
    for dataset in datasets.values():
        _as_finding(functools.partial(check_num_classes, config, dataset), findings)
    if trained and not config.MODEL.RPN_ONLY:
        classes = {name: datasets[name].classes for name in tested}
        source = f"TRAIN.DATASETS ({', '.join(trained)})"
        first = datasets[trained[0]].classes
        _as_finding(lambda: check_class_order(first, source, classes), findings)
    return findings


def _check(dataset: CocoDataset, config: Config, findings: list[Finding]) -> CheckedDataset:
    """Check one data set; add what is wrong to the findings."""
    is_trained = dataset.name in config.TRAIN.DATASETS
    is_tested = dataset.name in config.TEST.DATASETS
    table = AnnotationTable.of(dataset)
    findings += check_annotations(table, config)
    lines = count_lines(table)
    coverage = None
    for wanted, part, scales in (
        (is_trained, "TRAIN", config.TRAIN.SCALES),
        (is_tested, "TEST", (config.TEST.SCALE,)),
    ):
        if wanted:
            lines += _size_lines(table, scales, config[part].MAX_SIZE, part, findings)
    if is_trained:
        records: list[ImageRecord] = []
        _as_finding(
            lambda: records.extend(dataset.records(True, config, check_files=False)), findings
        )
        usable = [record for record in records if record.has_ground_truth]
        if not usable:
            findings.append(Finding(f"{dataset.name}: no image has a ground-truth box to train on"))
        coverage = anchor_coverage(usable, config)
        if coverage is not None:
            lines.append(coverage_summary(coverage, config))
            cases = _worst_fits(coverage, usable, dataset.classes)
            findings += [
                Finding(f"{dataset.name}: {warning}", cases)
                for warning in coverage_warnings(coverage, config, dataset.classes)
            ]
        elif no_coverage_reason(config):
            lines.append(no_coverage_reason(config))
    role = " and ".join(
        text for wanted, text in ((is_trained, "training"), (is_tested, "testing")) if wanted
    )
    return CheckedDataset(dataset, table, role, lines, coverage)


def _size_lines(
    table: AnnotationTable,
    scales: Sequence[float],
    limit: float,
    part: str,
    findings: list[Finding],
) -> list[str]:
    """Return a line about images that MAX_SIZE limits; if it limits all, that is a finding."""
    keys = (f"{part}.SCALES" if part == "TRAIN" else "TEST.SCALE", f"{part}.MAX_SIZE")
    message = size_limit_message(
        table.heights.astype(np.int64), table.widths.astype(np.int64), scales, limit, *keys
    )
    if message and limit < max(scales):
        findings.append(Finding(f"{table.name}: {message}"))
    return [message] if message else []


def _worst_fits(
    coverage: Coverage, records: Sequence[ImageRecord], classes: Sequence[str]
) -> list[Case]:
    """Return the images with most boxes that no anchor fits."""
    below = np.flatnonzero(coverage.below)
    numbers, counts = np.unique(coverage.record[below], return_counts=True)
    cases = []
    for number in numbers[np.argsort(-counts, kind="stable")][:MAX_CASES]:
        record = records[number]
        unfit = coverage.box[below][coverage.record[below] == number]
        x1, y1, x2, y2 = record.boxes[unfit].T
        boxes = np.stack((x1, y1, x2 - x1 + 1, y2 - y1 + 1), axis=1)
        names = [classes[number] for number in record.classes[unfit]]
        cases.append(Case(record.dataset_name, record.image_id, boxes, "no anchor fits", names))
    return cases


def _missing_findings(missing: list[ImageFile], files: list[ImageFile]) -> list[Finding]:
    findings = []
    for name in dict.fromkeys(file.dataset for file in missing):
        gone = [file for file in missing if file.dataset == name]
        total = sum(file.dataset == name for file in files)
        findings.append(
            Finding(
                f"{name}: {len(gone)} of {counted(total, 'image file')} "
                f"{by_number(len(gone), 'is', 'are')} missing, first {gone[0].path}; restore "
                f"{by_number(len(gone), 'it', 'them')}, or set LIBRA.DATA.SKIP_BAD_IMAGES True",
                [Case(name, file.image_id, NO_BOXES, "missing") for file in gone[:MAX_CASES]],
            )
        )
    return findings


def _turned_findings(dataset: CocoDataset) -> list[Finding]:
    """Return what is assumed about photographs whose EXIF tag turns them."""
    files = dataset.annotated_files()
    found = files_that_fit_either_way(files)
    warn_no_more(dataset.name)
    if not found:
        return []
    paths = {file.path for file in found}
    cases = [
        Case(dataset.name, image_id, _boxes_of(dataset, image_id), "turned by its EXIF tag")
        for image_id, file in zip(dataset.image_ids(), files)
        if file.path in paths
    ]
    return [Finding(either_way_message(dataset.name, found, len(files)), cases[:MAX_CASES])]


def _boxes_of(dataset: CocoDataset, image_id: int | str) -> np.ndarray:
    """Return the boxes (N, 4) of an image as annotated."""
    annotations = dataset.coco.imgToAnns.get(image_id, [])
    return np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)


def _print(checked: Sequence[CheckedDataset], findings: Sequence[Finding]) -> None:
    for entry in checked:
        print(f"{entry.table.name} ({entry.role})")
        for line in entry.lines:
            print(f"  {line}")
        for name, (boxes, images) in entry.table.boxes_per_class().items():
            print(f"  class {name}: {counted(boxes, 'box', 'boxes')} in {counted(images, 'image')}")
    print(counted(len(findings), "finding") if findings else "nothing is wrong")
    for number, finding in enumerate(findings, start=1):
        print(f"{number}. {finding.message}")


def _write_repaired(
    checked: Sequence[CheckedDataset], missing: Sequence[ImageFile], fix: str
) -> None:
    stem, extension = os.path.splitext(fix)
    for entry in checked:
        name = entry.table.name
        gone = [file.image_id for file in missing if file.dataset == name]
        content, changes = repaired(entry.dataset, entry.table, gone)
        path = fix if len(checked) == 1 else f"{stem}_{name}{extension}"
        write_json(path, content)
        print(f"written: {path} ({'; '.join(changes) or 'as the reader keeps it'})")
