"""The class names of weights, and those assumed where a weights file holds none."""

from __future__ import annotations

import logging
from typing import Sequence

from detectron_ext.data.coco_classes import COCO_CLASSES

_LOG = logging.getLogger(__name__)


def assumed_class_names(num_classes: int, path: str) -> list[str] | None:
    """Return COCO's class names if the number of classes is COCO's, and log that they are assumed.

    Detectron's own weights files hold no class names. Most of them were trained on COCO.

    Args:
        num_classes: number of classes of the weights, background included.
        path: the weights file, for the message.

    Returns:
        Class names, background first; None for another number of classes.
    """
    if num_classes != len(COCO_CLASSES):
        return None
    _LOG.warning(
        "%s holds no class names: COCO's names are assumed, because it has COCO's %d classes",
        path,
        num_classes - 1,
    )
    return COCO_CLASSES


def class_names(classes: Sequence[str] | None, num_classes: int, path: str) -> dict[int, str]:
    """Return class number to name, for pictures and lists of detections.

    The names are those of the weights. Without them they are COCO's names if the number of classes
    is COCO's, and otherwise "class 7". A warning says so.

    Args:
        classes: class names in the weights file, background first; None if it has none.
        num_classes: MODEL.NUM_CLASSES.
        path: the weights file, for the warnings.
    """
    if classes is None:
        assumed = assumed_class_names(num_classes, path)
        if assumed:
            return dict(enumerate(assumed))
        _LOG.warning("%s holds no class names: classes are shown by their numbers", path)
    elif len(classes) != num_classes:
        _LOG.warning(
            "%s holds %d class names and MODEL.NUM_CLASSES is %d: classes are shown by their "
            "numbers",
            path,
            len(classes),
            num_classes,
        )
    else:
        return dict(enumerate(classes))
    return {number: f"class {number}" for number in range(num_classes)}
