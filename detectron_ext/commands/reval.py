"""Scoring detections or proposals that were saved, and merging the parts of a test."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from pycocotools.coco import COCO

from detectron_ext.commands.compare import ground_truth_entry
from detectron_ext.commands.score_report import report, score_and_say
from detectron_ext.config.settings import Settings
from detectron_ext.counted import counted
from detectron_ext.data.coco_dataset import read_ground_truth
from detectron_ext.data.proposals import read_scored_proposals, write_proposals
from detectron_ext.errors import UserError
from detectron_ext.evaluation.coco_eval import without_images
from detectron_ext.evaluation.detections_file import read_detections, read_upstream_detections
from detectron_ext.evaluation.proposal_recall import evaluate_proposals
from detectron_ext.evaluation.run_folder import open_run
from detectron_ext.evaluation.tested_parts import (
    Part,
    as_part,
    check_parts,
    parts_in,
    untested_of,
)
from detectron_ext.output_files import check_writable_folder, write_json_list

_LOG = logging.getLogger(__name__)


class _Saved(NamedTuple):
    """What was saved of a test.

    Attributes:
        source: the file or folder, for messages.
        detections: COCO results; None for proposals.
        proposals: (image id, boxes, scores) of each image; None for detections.
        image_ids: ids of the images that may occur; None if the source does not tell.
        untested: ids of the images that the test skipped.
    """

    source: str
    detections: list | None
    proposals: list | None
    image_ids: list | None
    untested: list


def reval(
    config: Settings,
    dataset: str,
    paths: Sequence[str],
    output_dir: str,
    annotations: str = "",
    partial: bool = False,
) -> dict[str, Any]:
    """Score what was saved of a test, and write it as one test into a folder.

    The files are written into ``<output_dir>/test/<dataset>/reval/``: ``detections.json`` or
    ``rpn_proposals.pkl``, and ``results.json`` if the data set has annotations.

    Args:
        config: a merged configuration. Its DATASETS_EXTRA may have the data set, and its
            LIBRA.EVALUATION.AP_DETECTIONS may add an AP.
        dataset: catalog name of the data set that was tested.
        paths: what was saved: COCO results (.json), Detectron's detections or proposals (.pkl),
            parts of a test, folders of parts, or the folder of a run. Several are merged.
        output_dir: folder for the merged test.
        annotations: COCO annotation file of the data set; by default that of the catalog.
        partial: score the images that the parts cover, if they do not cover all.

    Returns:
        The scores, as :func:`detectron_ext.commands.train_and_test.test` returns them for a data
        set.

    Raises:
        UserError: something cannot be read or does not fit the data set or another part, parts are
            missing, or the folder cannot be written.
    """
    coco = read_ground_truth(ground_truth_entry(dataset, config, annotations), required=False)
    check_writable_folder(output_dir, "to the output folder", "choose another --output-dir")
    files = [file for path in paths for file in _files(Path(path), dataset)]
    ids = sorted(coco.imgs)
    missing = _missing_images(files, ids, partial)
    saved = [_read(file, dataset, coco) for file in files]
    _check_disjoint(saved)
    skipped = {*missing, *(image_id for part in saved for image_id in part.untested)}
    truth = without_images(coco, skipped)
    folder = os.path.join(output_dir, "test", dataset, "reval")
    merge = _merge_detections if saved[0].proposals is None else _merge_proposals
    results = merge(saved, truth, dataset, folder, config)
    if "annotations" not in coco.dataset:
        _LOG.warning("%s: not scored, because its annotation file has no 'annotations'", dataset)
        return {}
    untested = [image_id for image_id in ids if image_id in skipped]
    return report(dataset, folder, results, truth, untested)


def _merge_detections(
    saved: list[_Saved], truth: COCO, dataset: str, folder: str, config: Settings
) -> dict[str, Any]:
    """Write the detections of all parts as one file, and return their scores."""
    detections = [found for part in saved for found in part.detections or ()]
    _say_what_is_empty_or_unknown(detections, truth, dataset)
    path = os.path.join(folder, "detections.json")
    write_json_list(path, detections)
    _LOG.info("written: %s", path)
    return score_and_say(config, dataset, truth, detections)


def _merge_proposals(
    saved: list[_Saved], truth: COCO, dataset: str, folder: str, config: Settings
) -> dict[str, Any]:
    """Write the proposals of all parts as one file, and return their average recall."""
    found = [found for part in saved for found in part.proposals or ()]
    image_ids, boxes, scores = ([one[place] for one in found] for place in range(3))
    path = os.path.join(folder, "rpn_proposals.pkl")
    write_proposals(path, image_ids, boxes, scores, cfg="")
    _LOG.info("written: %s", path)
    return evaluate_proposals(truth, [one for one in found if one[0] in truth.imgs])


def _files(path: Path, dataset: str) -> list[Path | Part]:
    """Return the files of a path: its parts if it is a folder of parts, else itself."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if not path.is_dir():
        return [as_part(path) or path]
    folders = [path, *sorted((path / "test" / dataset).glob("*/"))]
    parts: list = [part for folder in folders for part in parts_in(folder)]
    whole = [name for folder in folders for name in folder.glob("detections.json")]
    if parts and whole:
        raise UserError(
            f"{path} has {whole[0].name} of a whole test and parts of a test: name the files to "
            "score"
        )
    return parts or [path]


def _missing_images(files: list, ids: list, partial: bool) -> list:
    """Return the ids of the images that no part covers; [] if the files are no parts."""
    parts = [file for file in files if isinstance(file, Part)]
    if not parts:
        return []
    if len(parts) < len(files):
        other = next(file for file in files if not isinstance(file, Part))
        raise UserError(f"{other} is no part of a test, and {parts[0].path} is: score one of them")
    return [ids[place] for place in check_parts(parts, len(ids), partial)]


def _read(file: Path | Part, dataset: str, coco: COCO) -> _Saved:
    ids = sorted(coco.imgs)
    image_ids, untested = None, []
    path = file.path if isinstance(file, Part) else file
    if isinstance(file, Part):
        image_ids, untested = ids[file.start : file.end], untested_of(file)
        unknown = [one for one in untested if one not in image_ids]
        if unknown:
            raise UserError(
                f"{file.untested_path} names image {unknown[0]}, which is not in its range"
            )
    source = str(path)
    if path.is_dir():
        run = open_run(source, dataset)
        detections = run.detections(coco)
        for line in run.warnings:
            _LOG.warning("%s", line)
        if detections is None:
            raise UserError(f"{source}: the detections were not kept, so they cannot be scored")
        return _Saved(source, detections, None, None, [i for i in run.untested_images if i in ids])
    if path.suffix != ".pkl":
        return _checked(_Saved(source, read_detections(source), None, image_ids, untested), coco)
    proposals = read_scored_proposals(source)
    if proposals is not None:
        return _checked(_Saved(source, None, proposals, image_ids, untested), coco)
    detections = read_upstream_detections(source, coco, image_ids)
    return _Saved(source, detections, None, image_ids, untested)


def _checked(saved: _Saved, coco: COCO) -> _Saved:
    """Raise UserError if images occur that the data set or the range does not have."""
    known = coco.imgs if saved.image_ids is None else set(saved.image_ids)
    where = "the annotations do not have" if saved.image_ids is None else "is not in its range"
    for image_id in _images_of(saved):
        if image_id not in known:
            raise UserError(
                f"{saved.source} has results of image {image_id!r}, which {where}: name the data "
                "set that was tested"
            )
    return saved


def _images_of(saved: _Saved) -> list:
    if saved.proposals is not None:
        return [image_id for image_id, _, _ in saved.proposals]
    return list(dict.fromkeys(found["image_id"] for found in saved.detections or ()))


def _check_disjoint(saved: list[_Saved]) -> None:
    """Raise UserError if two files have results of one image, which would count twice."""
    kinds = {part.proposals is None for part in saved}
    if len(kinds) > 1:
        raise UserError("some of the files hold detections and others proposals: score one kind")
    owners: dict = {}
    for part in saved:
        for image_id in _images_of(part):
            if owners.setdefault(image_id, part) is not part:
                raise UserError(
                    f"{owners[image_id].source} and {part.source} both have results of image "
                    f"{image_id}: name only one of them"
                )


def _say_what_is_empty_or_unknown(detections: list, truth: COCO, dataset: str) -> None:
    unknown = sum(found["category_id"] not in truth.cats for found in detections)
    if unknown:
        _LOG.warning(
            "%s: not scored: %d of %s, of classes that the annotations do not have",
            dataset, unknown, counted(len(detections), "detection"),
        )  # fmt: skip
    shown = {found["image_id"] for found in detections}
    empty = len(truth.imgs) - len(shown & set(truth.imgs))
    if empty:
        images = counted(len(truth.imgs), "image")
        _LOG.info("%s: %d of %s without a detection", dataset, empty, images)
