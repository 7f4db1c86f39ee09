"""Which kind of detector a configuration describes."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


class ModelKind(enum.Enum):
    """The detectors that this project builds; the value is the name for people."""

    RETINANET = "RetinaNet"
    FASTER_RCNN = "Faster R-CNN"
    FAST_RCNN = "Fast R-CNN"
    RPN_ALONE = "an RPN-only model"


def model_kind(config: Settings) -> ModelKind:
    """Return the kind of detector.

    Args:
        config: MODEL.TYPE, MODEL.FASTER_RCNN and MODEL.RPN_ONLY decide.
    """
    if config.MODEL.TYPE == "retinanet":
        return ModelKind.RETINANET
    if config.MODEL.RPN_ONLY:
        return ModelKind.RPN_ALONE
    return ModelKind.FASTER_RCNN if config.MODEL.FASTER_RCNN else ModelKind.FAST_RCNN


def is_retinanet(config: Settings) -> bool:
    """Return whether the detector is RetinaNet; every other one has regions of interest."""
    return model_kind(config) is ModelKind.RETINANET


def ignores_crowd_anchors(config: Settings) -> bool:
    """Return whether anchors inside crowds are ignored; if not, they are background."""
    return bool(
        (config.LIBRA.IGNORE_CROWD_ANCHORS or config.LIBRA.AUGMENTATION.CROP)
        and config.TRAIN.CROWD_FILTER_THRESH > 0
    )


def reads_proposals(config: Settings) -> bool:
    """Return whether regions come from TRAIN.PROPOSAL_FILES and TEST.PROPOSAL_FILES."""
    return model_kind(config) is ModelKind.FAST_RCNN
