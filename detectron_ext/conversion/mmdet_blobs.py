"""Conversion of the tensors of mmdetection's detectors to Detectron's blobs.

The two programs differ in more than names:

- Input: the input of mmdetection is (pixel - mean) / std. Here it is the pixel minus PIXEL_MEANS,
  which are set to mmdetection's means. The weights of conv1 are divided by std. Both programs pad
  with zeros, and in both a padded zero stands for the mean colour. The results are therefore the
  same at the borders, too. (Other means would need a bias, which would be wrong in the padding.)
- Frozen BatchNorm: scale = weight / sqrt(variance + 1e-5), bias = bias - mean * scale.
- RetinaNet's anchors: mmdetection orders them by aspect ratio, then by octave scale; here they are
  ordered by octave scale, then by aspect ratio.
- Background in Fast R-CNN: in mmdetection it is the last class and has no boxes. Here it is the
  first class, and its boxes are not used.

Both programs flatten maps in the order channel, row, column before a fully connected layer.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.conversion.mmdet_settings import CheckpointSettings
from detectron_ext.conversion.tensor_source import TensorSource

_EPSILON = 1e-5
_BLOCKS = (3, 4, 6, 3)
_OCTAVES = 3
_RATIOS = 3


class BlobConverter:
    """Converts the tensors of a checkpoint and collects the blobs.

    Attributes:
        blobs: name to float32 array.
    """

    def __init__(self, source: TensorSource, settings: CheckpointSettings):
        self.blobs: dict[str, np.ndarray] = {}
        self._source, self._settings = source, settings

    def _put(self, name: str, value: np.ndarray) -> None:
        self.blobs[name] = np.ascontiguousarray(value, dtype=np.float32)

    def _layer(self, there: str, here: str, change: Callable = lambda array: array, dims=4):
        """Convert a convolution or a fully connected layer with bias.

        Args:
            there: its name in mmdetection.
            here: its name in Detectron.
            change: function that is applied to the weight and to the bias, to reorder or extend
                their first axis.
            dims: number of dimensions of the weight: 4 for a convolution, 2 for a fully connected
                layer.
        """
        weight = self._source.take(f"{there}.weight", *[None] * dims)
        bias = self._source.take(f"{there}.bias", len(weight))
        self._put(here + "_w", change(weight))
        self._put(here + "_b", change(bias))

    def _conv_bn(self, conv: str, norm: str, here: str, here_norm: str, *shape: int | None) -> None:
        """Convert a convolution without bias and the frozen BatchNorm after it.

        Args:
            conv, norm: their names in mmdetection.
            here, here_norm: their names in Detectron.
            shape: expected shape of the weights; None stands for any size.
        """
        weight, scale, bias = self._source.take_conv_bn(conv, norm, _EPSILON, *shape)
        self._put(here + "_w", weight)
        self._put(here_norm + "_s", scale)
        self._put(here_norm + "_b", bias)

    def add_backbone(self) -> None:
        """Convert the ResNet-50."""
        any_size = (None, 3, None, None)
        self._conv_bn("backbone.conv1", "backbone.bn1", "conv1", "res_conv1_bn", *any_size)
        weight = self.blobs["conv1_w"] / np.reshape(self._settings.std, (1, 3, 1, 1))
        self._put("conv1_w", weight[:, ::-1] if self._settings.to_rgb else weight)
        for stage, blocks in enumerate(_BLOCKS, start=2):
            for block in range(blocks):
                there, here = f"backbone.layer{stage - 1}.{block}", f"res{stage}_{block}"
                for number, letter in enumerate("abc", start=1):
                    branch = f"{here}_branch2{letter}"
                    self._conv_bn(
                        f"{there}.conv{number}", f"{there}.bn{number}", branch, branch + "_bn"
                    )
                if block == 0:
                    branch = f"{here}_branch1"
                    self._conv_bn(
                        f"{there}.downsample.0", f"{there}.downsample.1", branch, branch + "_bn"
                    )

    def add_pyramid(self, lowest: int, highest: int, balanced: bool) -> None:
        """Convert the FPN.

        Args:
            lowest: number of its finest level.
            highest: number of its coarsest level. Levels above P5 are made by convolutions.
            balanced: whether a balanced pyramid with non-local refinement follows.
        """
        neck = "neck.0" if balanced else "neck"
        stages = {level: f"res{level}_{_BLOCKS[level - 2] - 1}_sum" for level in range(lowest, 6)}
        for index, (level, stage) in enumerate(stages.items()):
            lateral = "" if level == 5 else "_lateral"
            self._layer(f"{neck}.lateral_convs.{index}.conv", f"fpn_inner_{stage}{lateral}")
            self._layer(f"{neck}.fpn_convs.{index}.conv", f"fpn_{stage}")
        for level in range(6, highest + 1):
            self._layer(f"{neck}.fpn_convs.{level - lowest}.conv", f"fpn_{level}")
        if balanced:
            for name in ("theta", "phi", "g"):
                self._layer(f"neck.1.refine.{name}.conv", f"bfp_{name}")
            self._layer("neck.1.refine.conv_out.conv", "bfp_out")

    def add_retinanet_heads(self) -> None:
        """Convert RetinaNet's towers and outputs. Detectron names their blobs after level 3."""
        for index in range(4):
            for there, here in (("cls_convs", "cls_conv"), ("reg_convs", "bbox_conv")):
                self._layer(f"bbox_head.{there}.{index}.conv", f"retnet_{here}_n{index}_fpn3")
        anchors = _OCTAVES * _RATIOS
        self._layer("bbox_head.retina_cls", "retnet_cls_pred_fpn3")
        self._layer("bbox_head.retina_reg", "retnet_bbox_pred_fpn3")
        classes, boxes = (len(self.blobs[f"retnet_{k}_pred_fpn3_b"]) for k in ("cls", "bbox"))
        if classes % anchors:
            self._source.refuse(
                f"bbox_head.retina_cls has {classes} outputs, not a multiple of {anchors} anchors"
            )
        if boxes != 4 * anchors:
            self._source.refuse(
                f"bbox_head.retina_reg has {boxes} outputs, not 4 for each of {anchors} anchors"
            )
        for name in ("cls_pred_fpn3_w", "cls_pred_fpn3_b", "bbox_pred_fpn3_w", "bbox_pred_fpn3_b"):
            self._put(f"retnet_{name}", _octaves_outermost(self.blobs[f"retnet_{name}"]))

    def add_rpn(self) -> None:
        """Convert the RPN. Detectron names its blobs after level 2, the finest one.

        The anchors have the same order in both programs.
        """
        self._layer("rpn_head.rpn_conv", "conv_rpn_fpn2")
        self._layer("rpn_head.rpn_cls", "rpn_cls_logits_fpn2")
        self._layer("rpn_head.rpn_reg", "rpn_bbox_pred_fpn2")

    def add_box_head(self) -> None:
        """Convert the two fully connected layers and the predictions of classes and boxes."""
        head = "roi_head.bbox_head"
        for index, here in enumerate(("fc6", "fc7")):
            self._layer(f"{head}.shared_fcs.{index}", here, dims=2)
        self._layer(f"{head}.fc_cls", "cls_score", _background_first, dims=2)
        self._layer(f"{head}.fc_reg", "bbox_pred", _with_background_boxes, dims=2)
        classes, boxes = len(self.blobs["cls_score_b"]), len(self.blobs["bbox_pred_b"])
        if boxes != 4 * classes:
            self._source.refuse(
                f"{head}.fc_reg has {boxes - 4} outputs, not 4 for each of {classes - 1} classes"
            )


def _octaves_outermost(array: np.ndarray) -> np.ndarray:
    """Reorder anchors from (aspect ratio, octave) to (octave, aspect ratio) on the first axis."""
    groups = array.reshape((_RATIOS, _OCTAVES, -1) + array.shape[1:])
    return groups.swapaxes(0, 1).reshape(array.shape)


def _background_first(array: np.ndarray) -> np.ndarray:
    return np.roll(array, 1, axis=0)


def _with_background_boxes(array: np.ndarray) -> np.ndarray:
    return np.concatenate((np.zeros_like(array[:4]), array))
