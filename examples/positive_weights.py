"""Weights of RetinaNet's positives: the best box of each object counts twice."""

import numpy as np

from detectron_ext.sampling.positive_weights import POSITIVE_WEIGHTS, ranks_in_groups


@POSITIVE_WEIGHTS.register("best_twice")
class BestTwice:
    """The factor 2 for the positive of each object with the largest IoU, 1 for the others."""

    def __init__(self, config):
        pass

    def __call__(self, positives):
        ranks = ranks_in_groups(positives.iou, positives.instance)
        return np.where(ranks == 0, 2.0, 1.0)
