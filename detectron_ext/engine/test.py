"""The testing loop: a trained model over every image of a data set."""

from __future__ import annotations

import logging
import time

from tqdm import tqdm

from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.transforms import read_image
from detectron_ext.engine.detector import Detector
from detectron_ext.errors import DatasetError
from detectron_ext.geometry.boxes import to_xywh

_LOG = logging.getLogger(__name__)


def detect_dataset(
    config, detector: Detector, dataset: CocoDataset, image_ids: list | None = None
) -> list:
    """Detections of every image, as COCO results.

    Args:
        config: LIBRA.DATA.SKIP_BAD_IMAGES says what to do with an unreadable image.
        detector: the model.
        dataset: its classes are the model's.
        image_ids: only these images; None is all.

    Returns:
        Dicts of image_id, category_id, bbox (x, y, width, height in image pixels) and score.
    """
    skip = config.LIBRA.DATA.SKIP_BAD_IMAGES
    records = dataset.records(False, config, skip)
    if image_ids is not None:
        chosen = set(image_ids)
        records = [record for record in records if record.image_id in chosen]
    results = []
    started = time.perf_counter()
    for record in tqdm(records, desc=dataset.name, unit="image", disable=None):
        try:
            image = read_image(record)
        except DatasetError as error:
            if not skip:
                raise DatasetError(
                    f"{error}; LIBRA.DATA.SKIP_BAD_IMAGES True goes on without it"
                ) from error
            _LOG.warning("skipped: %s", error)
            continue
        results += coco_results(detector(image), record.image_id, dataset.contiguous_to_category)
    seconds = time.perf_counter() - started
    _LOG.info(
        "%s: %d images in %.1f s (%.3f s/image), %d detections",
        dataset.name, len(records), seconds, seconds / max(1, len(records)), len(results),
    )  # fmt: skip
    return results


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
