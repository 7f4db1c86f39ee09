"""Python operators that process proposals while the net runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.sampling.proposal_targets import ProposalTargets


class BestProposals:
    """Operator that selects the best proposals of all levels.

    Inputs are the proposals of each level, (R_l, 5), then the scores of each level, (R_l,). Outputs
    are the ``count`` proposals with the highest scores, best first, and their scores.
    """

    def __init__(self, count: int):
        self._count = count

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run the operator on Caffe2's tensors."""
        arrays = [tensor.data for tensor in inputs]
        levels = len(arrays) // 2
        rois, scores = np.concatenate(arrays[:levels]), np.concatenate(arrays[levels:])
        best = np.argsort(-scores, kind="stable")[: self._count]
        outputs[0].feed(rois[best])
        outputs[1].feed(scores[best])


class LabelledProposals:
    """Operator that samples proposals and ground-truth boxes, and labels them for training.

    Inputs are proposals (R, 5), ground-truth boxes (G, 7) and the seed of the draw (1,). Outputs
    are the blobs of `ProposalTargets` that ``output_names`` lists.
    """

    def __init__(self, config: Settings, output_names: Sequence[str]):
        self._targets = ProposalTargets(config)
        self._names = tuple(output_names)

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run the operator on Caffe2's tensors."""
        rois, gt_boxes, seed = (tensor.data for tensor in inputs)
        blobs = self._targets(rois, gt_boxes, int(seed[0]))
        for name, tensor in zip(self._names, outputs):
            tensor.feed(blobs[name])
