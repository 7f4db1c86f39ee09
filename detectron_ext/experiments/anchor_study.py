"""A trained RetinaNet on its training images: label, IoU, logits and box error of the anchors.

The figures show with these data which samples a sampler draws, and which samples contribute to the
gradient of a loss.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.config import Config, is_retinanet
from detectron_ext.data.minibatch import ImageSample, image_blobs, load_sample
from detectron_ext.data.records import training_records
from detectron_ext.engine.detector import TestNet
from detectron_ext.engine.start_weights import local_weights
from detectron_ext.errors import UserError
from detectron_ext.geometry.anchors import AnchorGrids, pyramid_levels, retinanet_anchor_levels
from detectron_ext.geometry.boxes import encode
from detectron_ext.ops.reference.selected_anchors import delta_box_iou
from detectron_ext.sampling.matching import BACKGROUND
from detectron_ext.sampling.retinanet_targets import RetinanetTargets


class ImageAnchors(NamedTuple):
    """The A anchors of one image with C foreground classes.

    Attributes:
        labels: (A,) int32 class numbers; 0 is background, -1 is ignored.
        overlaps: (A,) float32, largest IoU with a ground-truth box.
        logits: (A, C) float32.
        box_errors: (P, 4) float32, regression output minus target of the P positive anchors.
        box_ious: (P,) float64, IoU of their predicted boxes with the boxes that they should become.
    """

    labels: np.ndarray
    overlaps: np.ndarray
    logits: np.ndarray
    box_errors: np.ndarray
    box_ious: np.ndarray


class Study(NamedTuple):
    """Outputs of a model on some training images.

    Attributes:
        images: ImageAnchors of each image.
        energies: (2, L) float64, mean square of the features of each pyramid level before and after
            the balanced pyramid; None for a model without one.
        levels: numbers of the L pyramid levels.
    """

    images: list[ImageAnchors]
    energies: np.ndarray | None
    levels: tuple[int, ...]


def study_training_images(config: Config, weights: str, num_images: int) -> Study:
    """Run a trained model on training images, scaled and augmented as in training.

    Args:
        config: a merged configuration of a RetinaNet with sigmoid outputs.
        weights: a weights file that fits the configuration.
        num_images: number of images, drawn with RNG_SEED.

    Raises:
        UserError: the model is of another kind, or the weights or the data cannot be read.
    """
    retinanet = config.RETINANET
    if not is_retinanet(config) or retinanet.SOFTMAX or retinanet.CLASS_SPECIFIC_BBOX:
        raise UserError(
            "these figures need a RetinaNet with RETINANET.SOFTMAX and CLASS_SPECIFIC_BBOX False"
        )
    local_weights(weights)  # before a long reading of the data
    rng = np.random.default_rng(config.RNG_SEED)
    records, _ = training_records(config.TRAIN.DATASETS, config, None)
    net = TestNet(config, weights)
    before, after = _pyramid_blobs(net, config)
    targets = RetinanetTargets(config)
    images, energies = [], []
    for index in rng.permutation(len(records))[:num_images]:
        sample = load_sample(records[index], config, rng, train=True)
        blobs = image_blobs([sample], config, train=False)
        net.run(blobs)
        images.append(_image_anchors(net, sample, blobs["data"].shape[2:], targets, config))
        energies.append([[_energy(net, blob) for blob in part] for part in (before, after)])
    mean = np.mean(energies, axis=0) if before else None
    return Study(images, mean, tuple(pyramid_levels(config)))


def _pyramid_blobs(net: TestNet, config: Config) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the pyramid's blobs before and after balancing; none without it."""
    if not config.LIBRA.BFP.ON:
        return (), ()
    after = [f"bfp_fpn{level}" for level in pyramid_levels(config)]
    (inputs,) = [op.input for op in net.operators() if list(op.output) == after]
    return list(inputs)[1:], after  # the first input is the map that is added to all levels


def _energy(net: TestNet, blob: str) -> float:
    return float(np.mean(np.square(net.fetch(blob), dtype=np.float64)))


def _image_anchors(
    net: TestNet,
    sample: ImageSample,
    size: tuple[int, ...],
    training: RetinanetTargets,
    config: Config,
) -> ImageAnchors:
    grids = AnchorGrids(retinanet_anchor_levels(config))(*size)[1]
    logits, boxes = [], []
    for level, grid in zip(pyramid_levels(config), grids):
        logits.append(_by_anchor(net.fetch(f"retnet_cls_pred_fpn{level}"), grid.shape[0]))
        boxes.append(_by_anchor(net.fetch(f"retnet_bbox_pred_fpn{level}"), grid.shape[0]))
    anchors = np.concatenate([grid.reshape(-1, 4) for grid in grids])
    height, width = size
    draws = np.random.default_rng(config.RNG_SEED)  # of a mode that draws; the samples have theirs
    labels, matched, overlaps, _ = training.assignment(sample, height, width, draws)
    positive = np.flatnonzero(labels > BACKGROUND)
    objects = sample.boxes[~sample.is_crowd]
    targets = encode(anchors[positive], objects[matched[positive]])
    deltas = np.concatenate(boxes)[positive]
    ious = delta_box_iou(deltas, targets, max_log_scale=config.BBOX_XFORM_CLIP)
    return ImageAnchors(labels, overlaps, np.concatenate(logits), deltas - targets, ious)


def _by_anchor(output: np.ndarray, num_anchors: int) -> np.ndarray:
    """Reshape the output (1, A * C, H, W) of one image to (A * H * W, C), in the anchors' order."""
    height, width = output.shape[2:]
    split = output.reshape(num_anchors, -1, height, width)
    return np.moveaxis(split, 1, -1).reshape(num_anchors * height * width, -1)
