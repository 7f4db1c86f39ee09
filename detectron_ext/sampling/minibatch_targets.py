"""The training targets of a minibatch, for every detector."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np

from detectron_ext.config import is_retinanet, reads_proposals
from detectron_ext.config.settings import Settings
from detectron_ext.registry import Protocol
from detectron_ext.sampling.matching import GroundTruthImage
from detectron_ext.sampling.proposal_targets import ProposalTargets
from detectron_ext.sampling.retinanet_targets import RetinanetTargets
from detectron_ext.sampling.rpn_targets import RpnTargets

# Seeds fit Caffe2's int64 blobs.
_SEEDS = 2**63


class ImageWithProposals(GroundTruthImage, Protocol):
    """A training image, with proposals if the model reads them from a file.

    Attributes:
        proposals: (P, 4) float32 rows (x1, y1, x2, y2) in pixels of the network's input.
    """

    @property
    def proposals(self) -> np.ndarray: ...


def minibatch_targets(config: Settings) -> Callable[..., dict]:
    """Return a thread-safe function that makes the target blobs of a minibatch.

    Its parameters are those of `RetinanetTargets` and `RegionTargets`: samples, height, width, rng.
    """
    return RetinanetTargets(config) if is_retinanet(config) else RegionTargets(config)


class RegionTargets:
    """Makes the target blobs of Faster R-CNN, Fast R-CNN or an RPN-only model; thread-safe.

    Args:
        config: MODEL.FASTER_RCNN, MODEL.RPN_ONLY, and the settings of `RpnTargets` and
            `ProposalTargets` are used.
    """

    def __init__(self, config: Settings) -> None:
        self._has_rpn = not reads_proposals(config)
        self._has_head = not config.MODEL.RPN_ONLY
        self._rpn_targets = RpnTargets(config) if self._has_rpn else None
        # In Faster R-CNN the net makes the proposals and their targets.
        self._proposal_targets = None if self._has_rpn else ProposalTargets(config)

    def __call__(
        self,
        samples: Sequence[ImageWithProposals],
        height: int,
        width: int,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """Make the target blobs of images.

        Args:
            samples: the images, with proposals for Fast R-CNN.
            height: rows of the padded images, in pixels.
            width: columns of the padded images, in pixels.
            rng: source of every draw.

        Returns:
            With an RPN, the blobs of `RpnTargets`. In Faster R-CNN also gt_boxes (G, 7) float32
            rows (image, x1, y1, x2, y2, class from 1, is_crowd) in network pixels, and
            sampling_seed (1,) int64; the net passes both to `ProposalTargets`. In Fast R-CNN the
            blobs of `ProposalTargets`.
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


def _ground_truth(samples: Sequence[GroundTruthImage]) -> np.ndarray:
    return _with_image(
        [
            np.column_stack((sample.boxes, sample.classes, sample.is_crowd)).astype(np.float32)
            for sample in samples
        ]
    )


def _with_image(parts: list) -> np.ndarray:
    """Join the rows of all images, and put the number of its image before each row."""
    return np.concatenate(
        [np.insert(part, 0, np.float32(image), axis=1) for image, part in enumerate(parts)]
    )
