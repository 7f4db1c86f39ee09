"""Which kind of detector a configuration describes."""

from __future__ import annotations

from detectron_ext.config.tree import Config


def is_retinanet(config: Config) -> bool:
    """A dense detector of one stage; everything else has regions, of an RPN or of a file."""
    return config.MODEL.TYPE == "retinanet"


def reads_proposals(config: Config) -> bool:
    """Fast R-CNN: regions come from TRAIN.PROPOSAL_FILES and TEST.PROPOSAL_FILES."""
    has_rpn = config.MODEL.FASTER_RCNN or config.MODEL.RPN_ONLY
    return not (is_retinanet(config) or has_rpn)
