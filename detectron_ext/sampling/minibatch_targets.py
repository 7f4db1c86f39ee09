"""The targets of a minibatch, for whichever detector is trained."""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.config import is_retinanet, reads_proposals
from detectron_ext.sampling.proposal_targets import ProposalTargets
from detectron_ext.sampling.retinanet_targets import RetinanetTargets
from detectron_ext.sampling.rpn_targets import RpnTargets

# Seeds fit Caffe2's int64 blobs.
_SEEDS = 2**63


def minibatch_targets(config) -> Callable[..., dict]:
    """Return what makes the target blobs of a minibatch for the configured model; thread-safe.

    It is called with (samples, height, width, rng): samples as
    :class:`detectron_ext.data.minibatch.ImageSample`, the padded size in pixels, and the source of
    every draw. See :class:`RetinanetTargets` and :class:`RegionTargets`.
    """
    return RetinanetTargets(config) if is_retinanet(config) else RegionTargets(config)


class RegionTargets:
    """Target blobs of Faster R-CNN, Fast R-CNN or an RPN alone.

    Args:
        config: MODEL.FASTER_RCNN, MODEL.RPN_ONLY and what the parts read.
    """

    def __init__(self, config):
        self._has_rpn = not reads_proposals(config)
        self._has_head = not config.MODEL.RPN_ONLY
        self._rpn_targets = RpnTargets(config) if self._has_rpn else None
        # Of Faster R-CNN the proposals are made by the net, and so are their targets.
        self._proposal_targets = None if self._has_rpn else ProposalTargets(config)

    def __call__(self, samples, height: int, width: int, rng: np.random.Generator) -> dict:
        """Target blobs for images padded to height x width pixels.

        Returns:
            With an RPN, the blobs of :class:`RpnTargets`; in Faster R-CNN also gt_boxes (G, 7)
            float32 rows image, x1, y1, x2, y2, class (1-based), is_crowd in network pixels, and
            sampling_seed (1,) int64, which the net hands to :class:`ProposalTargets`. In Fast R-CNN
            the blobs of :class:`ProposalTargets`.
        """
        blobs = {}
        if self._rpn_targets is not None:
            blobs.update(self._rpn_targets(samples, height, width, rng))
        if not self._has_head:
            return blobs
        gt_boxes = _ground_truth(samples)
        seed = rng.integers(_SEEDS)
        if self._proposal_targets is None:
            blobs.update(gt_boxes=gt_boxes, sampling_seed=np.array([seed], dtype=np.int64))
        else:
            rois = _with_image([sample.proposals for sample in samples])
            blobs.update(self._proposal_targets(rois, gt_boxes, int(seed)))
        return blobs


def _ground_truth(samples) -> np.ndarray:
    return _with_image(
        [
            np.column_stack((sample.boxes, sample.classes, sample.is_crowd)).astype(np.float32)
            for sample in samples
        ]
    )


def _with_image(parts: list) -> np.ndarray:
    """Join the images' rows, the image's number before each."""
    return np.concatenate(
        [np.insert(part, 0, np.float32(image), axis=1) for image, part in enumerate(parts)]
    )
