"""Running a trained model on every image of a data set."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Collection, Iterator, NamedTuple

import numpy as np
from tqdm import tqdm

from detectron_ext.counted import counted
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.proposals import usable_proposals, with_proposals
from detectron_ext.data.size_limit import report_size_limit
from detectron_ext.data.transforms import read_image
from detectron_ext.engine.detector import Detector, Proposer
from detectron_ext.errors import DatasetError
from detectron_ext.geometry.boxes import to_xywh

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

_LOG = logging.getLogger(__name__)


class ImageProposals(NamedTuple):
    """The proposals of an RPN in one image.

    Attributes:
        image_id: id of the image in its COCO file.
        boxes: (P, 4) float32 x1, y1, x2, y2 in pixels of the image, best score first.
        scores: (P,) float32.
    """

    image_id: int | str
    boxes: np.ndarray
    scores: np.ndarray


class Tested(NamedTuple):
    """The result of testing a data set.

    Attributes:
        found: COCO results (dicts) or ImageProposals.
        untested: ids of the images that were skipped because they cannot be read.
    """

    found: list
    untested: list


def records_to_test(
    config: Settings, dataset: CocoDataset, image_ids: list, proposals_path: str | None = None
) -> list[ImageRecord]:
    """Return the records of images after checking that their files exist.

    Args:
        config: a merged configuration. LIBRA.DATA.SKIP_BAD_IMAGES decides whether a missing file
            is skipped or an error.
        dataset: the data set.
        image_ids: ids of the images to test.
        proposals_path: proposals file for Fast R-CNN; None for other models.

    Raises:
        DatasetError: a file is missing and is not to be skipped, or the proposals file does not
            fit the data set.
    """
    chosen = set(image_ids)
    records = dataset.records(False, config, config.LIBRA.DATA.SKIP_BAD_IMAGES)
    records = [record for record in records if record.image_id in chosen]
    return records if proposals_path is None else with_proposals(records, proposals_path)


def detect_dataset(
    config: Settings,
    detector: Detector,
    dataset: CocoDataset,
    image_ids: list,
    records: list[ImageRecord],
) -> Tested:
    """Detect objects in the images of a data set.

    Args:
        config: a merged configuration. LIBRA.DATA.SKIP_BAD_IMAGES decides whether an image that
            cannot be read is skipped or an error; TEST.PROPOSAL_LIMIT limits the proposals used.
        detector: the model.
        dataset: its classes are the model's.
        image_ids: ids of the images to test.
        records: their records, from :func:`records_to_test`.

    Returns:
        ``found`` holds COCO results: dicts of image_id, category_id, bbox (x, y, width, height in
        pixels of the image) and score.

    Raises:
        DatasetError: an image cannot be read and is not to be skipped.
    """
    results, tested = [], set()
    for record, image in _images(config, dataset, records):
        detections = detector(image, usable_proposals(record, config.TEST.PROPOSAL_LIMIT))
        results += coco_results(detections, record.image_id, dataset.contiguous_to_category)
        tested.add(record.image_id)
    _LOG.info("%s: %s", dataset.name, counted(len(results), "detection"))
    return Tested(results, _others(image_ids, tested))


def propose_dataset(
    config: Settings,
    proposer: Proposer,
    dataset: CocoDataset,
    image_ids: list,
    records: list[ImageRecord],
) -> Tested:
    """Propose regions in the images of a data set.

    Args:
        config: a merged configuration with MODEL.RPN_ONLY.
        proposer: the model.
        dataset, image_ids, records: as of :func:`detect_dataset`.

    Returns:
        ``found`` holds ImageProposals, in the data set's order. The record of an image that was
        skipped while reading has no boxes.

    Raises:
        DatasetError: an image cannot be read and is not to be skipped.
    """
    nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.float32)
    found = {
        record.image_id: proposer(image) for record, image in _images(config, dataset, records)
    }
    proposals = [
        ImageProposals(record.image_id, *found.get(record.image_id, nothing)) for record in records
    ]
    return Tested(proposals, _others(image_ids, found))


def _others(image_ids: list, tested: Collection) -> list:
    """Return the ids of the images that should have been tested and were not."""
    return [image_id for image_id in image_ids if image_id not in tested]


def _images(
    config: Settings, dataset: CocoDataset, records: list[ImageRecord]
) -> Iterator[tuple[ImageRecord, np.ndarray]]:
    """Yield records with their images (BGR, uint8).

    Log before the loop how many images TEST.MAX_SIZE limits, and at the end how long it took.
    """
    report_size_limit(
        records, (config.TEST.SCALE,), config.TEST.MAX_SIZE, "TEST.SCALE", "TEST.MAX_SIZE"
    )
    started = time.perf_counter()
    for record in tqdm(records, desc=dataset.name, unit="image", disable=None):
        try:
            image = read_image(record, config.LIBRA.DATA.DEEP_IMAGES)
        except DatasetError as error:
            if not config.LIBRA.DATA.SKIP_BAD_IMAGES:
                raise DatasetError(
                    f"{error}; to skip such images, set LIBRA.DATA.SKIP_BAD_IMAGES True"
                ) from error
            _LOG.warning("skipped: %s", error)
            continue
        yield record, image
    seconds = time.perf_counter() - started
    _LOG.info(
        "%s: %d images in %.1f s (%.3f s/image)",
        dataset.name, len(records), seconds, seconds / max(1, len(records)),
    )  # fmt: skip


def coco_results(
    detections: np.ndarray, image_id: int | str, contiguous_to_category: dict
) -> list[dict]:
    """Return one image's detections (D, 6), rows x1 y1 x2 y2 score class, as COCO results."""
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
