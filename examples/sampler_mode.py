"""A mode of RetinaNet's sampler: negatives that touch an object count less."""

import numpy as np

from detectron_ext.sampling.matching import BACKGROUND
from detectron_ext.sampling.retinanet_sampler import MODES, SampledAnchors


@MODES.register("soft_border")
class SoftBorder:
    """A negative's weight falls from 1 at IoU 0 to 0.5 at RETINANET.NEGATIVE_OVERLAP."""

    weighs = True

    def __init__(self, config):
        self.upper = config.RETINANET.NEGATIVE_OVERLAP

    def __call__(self, image):
        weights = np.ones(len(image.labels), dtype=np.float32)
        negative = image.labels == BACKGROUND
        weights[negative] -= 0.5 * image.overlaps[negative] / self.upper
        return SampledAnchors(image.labels, weights)
