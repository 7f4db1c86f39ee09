"""What Python operators of a graph do with proposals while the net runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectron_ext.sampling.proposal_targets import ProposalTargets


class BestProposals:
    """Operator: the best proposals of all levels.

    Inputs are the (R_l, 5) proposals of every level, then their (R_l,) scores; outputs are the
    ``count`` proposals with the highest scores and those scores, best first.
    """

    def __init__(self, count: int):
        self._count = count

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        arrays = [tensor.data for tensor in inputs]
        levels = len(arrays) // 2
        rois, scores = np.concatenate(arrays[:levels]), np.concatenate(arrays[levels:])
        best = np.argsort(-scores, kind="stable")[: self._count]
        outputs[0].feed(rois[best])
        outputs[1].feed(scores[best])


class LabelledProposals:
    """Operator: samples proposals and ground-truth boxes and labels them for training.

    Inputs are proposals (R, 5), ground-truth boxes (G, 7) and the seed of the draw; outputs are
    the blobs of these names.
    """

    def __init__(self, config, output_names: Sequence[str]):
        self._targets = ProposalTargets(config)
        self._names = tuple(output_names)

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        rois, gt_boxes, seed = (tensor.data for tensor in inputs)
        blobs = self._targets(rois, gt_boxes, int(seed[0]))
        for name, tensor in zip(self._names, outputs):
            tensor.feed(blobs[name])
