"""The limit on the detections of an image that average precision counts.

COCO's AP counts the 100 best detections of a class in an image. Where there are more detections or
more objects than that, AP is not what it seems to be: perfect detections do not reach 1.
"""

from __future__ import annotations

from collections import Counter
from typing import Iterable

from pycocotools.coco import COCO

COCO_LIMIT = 100
"""Detections of a class in an image that COCO's AP counts."""


def limit_message(
    truth: Iterable[dict], detections: Iterable[dict], limit: int = COCO_LIMIT
) -> str:
    """Return a line that says that COCO's limit binds; empty if it does not.

    Args:
        truth: COCO annotations that are scored.
        detections: COCO results that are scored.
        limit: the limit of the additional AP (LIBRA.EVALUATION.AP_DETECTIONS).
    """
    parts = []
    most = 0
    objects = (annotation for annotation in truth if not annotation.get("iscrowd"))
    for what, boxes in (("objects", objects), ("detections", detections)):
        counts = _counts_above(boxes, COCO_LIMIT)
        if counts:
            largest = max(counts.values())
            num_images = len({image_id for image_id, _ in counts})
            where = "image has" if num_images == 1 else "images have"
            parts.append(f"{num_images} {where} up to {largest} {what} of a class")
            most = max(most, largest)
    if not parts:
        return ""
    advice = f"LIBRA.EVALUATION.AP_DETECTIONS {most} adds the AP that counts them all"
    if limit > COCO_LIMIT:
        advice = f"see AP@{limit}" if limit >= most else f"{advice} (now {limit})"
    return (
        f"COCO's AP counts only the {COCO_LIMIT} best detections of a class in an image, and "
        f"{' and '.join(parts)}; {advice}"
    )


def _counts_above(boxes: Iterable[dict], limit: int) -> dict[tuple, int]:
    """Return {(image id, category id): number of boxes} of those with more boxes than a limit."""
    counts = Counter((box["image_id"], box["category_id"]) for box in boxes)
    return {where: count for where, count in counts.items() if count > limit}


def kept_message(coco: COCO, detections_per_image: int) -> str:
    """Return a line if images have more objects than detections are kept; empty otherwise.

    Args:
        coco: usable annotations.
        detections_per_image: TEST.DETECTIONS_PER_IM; 0 or less keeps all.
    """
    counts = Counter(a["image_id"] for a in coco.anns.values() if not a.get("iscrowd"))
    above = [count for count in counts.values() if count > detections_per_image]
    if detections_per_image <= 0 or not above:
        return ""
    where = "image has" if len(above) == 1 else "images have"
    return (
        f"{len(above)} {where} up to {max(above)} objects, and a test keeps "
        f"{detections_per_image} detections of an image: set TEST.DETECTIONS_PER_IM {max(above)} "
        "or more"
    )
