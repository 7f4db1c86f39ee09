"""The testing loop: a trained model over every image of a data set."""

from __future__ import annotations

import logging
import time
from typing import Collection, Iterator, NamedTuple

import numpy as np
from tqdm import tqdm

from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.proposals import usable_proposals, with_proposals
from detectron_ext.data.transforms import read_image
from detectron_ext.engine.detector import Detector, Proposer
from detectron_ext.errors import DatasetError
from detectron_ext.geometry.boxes import to_xywh

_LOG = logging.getLogger(__name__)


class ImageProposals(NamedTuple):
    """What an RPN proposes in one image: boxes (P, 4) in its pixels, best first, scores (P,)."""

    image_id: int | str
    boxes: np.ndarray
    scores: np.ndarray


class Tested(NamedTuple):
    """What testing a data set found, and the ids of the images that were skipped instead."""

    found: list
    untested: list


def detect_dataset(
    config,
    detector: Detector,
    dataset: CocoDataset,
    image_ids: list | None = None,
    proposals_path: str | None = None,
) -> Tested:
    """Detections of every image, as COCO results.

    Args:
        config: LIBRA.DATA.SKIP_BAD_IMAGES says what to do with an unreadable image;
            TEST.PROPOSAL_LIMIT.
        detector: the model.
        dataset: its classes are the model's.
        image_ids: only these images; None is all.
        proposals_path: proposals file, for Fast R-CNN.

    Returns:
        found: dicts of image_id, category_id, bbox (x, y, width, height in image pixels) and score.
    """
    records = _records(config, dataset, image_ids)
    if proposals_path is not None:
        records = with_proposals(records, proposals_path)
    results, tested = [], set()
    for record, image in _images(config, dataset, records):
        detections = detector(image, usable_proposals(record, config.TEST.PROPOSAL_LIMIT))
        results += coco_results(detections, record.image_id, dataset.contiguous_to_category)
        tested.add(record.image_id)
    _LOG.info("%s: %d detections", dataset.name, len(results))
    return Tested(results, _others(dataset, image_ids, tested))


def propose_dataset(
    config, proposer: Proposer, dataset: CocoDataset, image_ids: list | None = None
) -> Tested:
    """Proposals in every image, in the data set's order; arguments as of :func:`detect_dataset`.

    Returns:
        found: ImageProposals; an image that is skipped as unreadable has none.
    """
    records = _records(config, dataset, image_ids)
    nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.float32)
    found = {
        record.image_id: proposer(image) for record, image in _images(config, dataset, records)
    }
    proposals = [
        ImageProposals(record.image_id, *found.get(record.image_id, nothing)) for record in records
    ]
    return Tested(proposals, _others(dataset, image_ids, found))


def _others(dataset: CocoDataset, image_ids: list | None, tested: Collection) -> list:
    """Of the images that were to be tested those that were not."""
    wanted = dataset.image_ids() if image_ids is None else image_ids
    return [image_id for image_id in wanted if image_id not in tested]


def _records(config, dataset: CocoDataset, image_ids: list | None) -> list[ImageRecord]:
    records = dataset.records(False, config, config.LIBRA.DATA.SKIP_BAD_IMAGES)
    if image_ids is None:
        return records
    chosen = set(image_ids)
    return [record for record in records if record.image_id in chosen]


def _images(
    config, dataset: CocoDataset, records: list[ImageRecord]
) -> Iterator[tuple[ImageRecord, np.ndarray]]:
    """Read the images one by one, and say in the end how long all took."""
    started = time.perf_counter()
    for record in tqdm(records, desc=dataset.name, unit="image", disable=None):
        try:
            image = read_image(record)
        except DatasetError as error:
            if not config.LIBRA.DATA.SKIP_BAD_IMAGES:
                raise DatasetError(
                    f"{error}; LIBRA.DATA.SKIP_BAD_IMAGES True goes on without it"
                ) from error
            _LOG.warning("skipped: %s", error)
            continue
        yield record, image
    seconds = time.perf_counter() - started
    _LOG.info(
        "%s: %d images in %.1f s (%.3f s/image)",
        dataset.name, len(records), seconds, seconds / max(1, len(records)),
    )  # fmt: skip


def coco_results(detections, image_id, contiguous_to_category: dict) -> list:
    """COCO result dicts of one image's detections (D, 6): x1 y1 x2 y2 score class."""
    boxes = to_xywh(detections[:, :4])
    return [
        {
            "image_id": image_id,
            "category_id": contiguous_to_category[int(number)],
            "bbox": [round(float(value), 3) for value in box],
            "score": round(float(score), 6),
        }
        for box, score, number in zip(boxes, detections[:, 4], detections[:, 5])
    ]
