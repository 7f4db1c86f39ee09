"""Conversion of the tensors of mmdetection's detectors to Detectron's blobs, and back.

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

from abc import ABC, abstractmethod
from typing import Callable, NamedTuple

import numpy as np

from detectron_ext.conversion.mmdet_settings import CheckpointSettings
from detectron_ext.conversion.tensor_source import TensorSource

_EPSILON = 1e-5
_BLOCKS = (3, 4, 6, 3)
_OCTAVES = 3
_RATIOS = 3
ANCHORS = _OCTAVES * _RATIOS
"""Anchors of a cell of RetinaNet."""


class Order(NamedTuple):
    """How the first axis of a layer's weight and bias differs.

    Attributes:
        to_here: a function from mmdetection's array to Detectron's.
        to_there: its inverse.
    """

    to_here: Callable[[np.ndarray], np.ndarray]
    to_there: Callable[[np.ndarray], np.ndarray]


def _swapped_groups(first: int, second: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that turns the order (first, second) of anchors into (second, first)."""

    def swap(array: np.ndarray) -> np.ndarray:
        groups = array.reshape((first, second, -1) + array.shape[1:])
        return groups.swapaxes(0, 1).reshape(array.shape)

    return swap


_SAME = Order(lambda array: array, lambda array: array)
_ANCHOR_ORDER = Order(_swapped_groups(_RATIOS, _OCTAVES), _swapped_groups(_OCTAVES, _RATIOS))
_BACKGROUND_FIRST = Order(
    lambda array: np.roll(array, 1, axis=0), lambda array: np.roll(array, -1, axis=0)
)
_BACKGROUND_BOXES = Order(
    lambda array: np.concatenate((np.zeros_like(array[:4]), array)), lambda array: array[4:]
)


class DetectorLayers(ABC):
    """The layers of a detector in both programs; a subclass converts each of them."""

    @abstractmethod
    def layer(self, there: str, here: str, dims: int = 4, order: Order = _SAME) -> None:
        """Convert a convolution or a fully connected layer with bias.

        Args:
            there: its name in mmdetection.
            here: its name in Detectron.
            dims: number of dimensions of the weight: 4 for a convolution, 2 for a fully connected
                layer.
            order: how the first axis differs.
        """

    @abstractmethod
    def conv_bn(self, conv: str, norm: str, here: str, here_norm: str) -> None:
        """Convert a convolution without bias and the frozen BatchNorm after it.

        Args:
            conv, norm: their names in mmdetection.
            here, here_norm: their names in Detectron.
        """

    def add_detector(self, is_retinanet: bool, is_balanced: bool) -> None:
        """Convert a whole detector.

        Args:
            is_retinanet: RetinaNet if True, else Faster R-CNN.
            is_balanced: whether a balanced pyramid with non-local refinement follows the FPN.
        """
        self._add_backbone()
        lowest, highest = (3, 7) if is_retinanet else (2, 5)
        self._add_pyramid("neck.0" if is_balanced else "neck", lowest, highest)
        if is_balanced:
            for name in ("theta", "phi", "g"):
                self.layer(f"neck.1.refine.{name}.conv", f"bfp_{name}")
            self.layer("neck.1.refine.conv_out.conv", "bfp_out")
        if is_retinanet:
            self._add_retinanet_heads()
        else:
            self._add_rpn()
            self._add_box_head()

    def _add_backbone(self) -> None:
        """Convert the ResNet-50."""
        self.conv_bn("backbone.conv1", "backbone.bn1", "conv1", "res_conv1_bn")
        for stage, blocks in enumerate(_BLOCKS, start=2):
            for block in range(blocks):
                there, here = f"backbone.layer{stage - 1}.{block}", f"res{stage}_{block}"
                for number, letter in enumerate("abc", start=1):
                    branch = f"{here}_branch2{letter}"
                    self.conv_bn(
                        f"{there}.conv{number}", f"{there}.bn{number}", branch, branch + "_bn"
                    )
                if block == 0:
                    branch = f"{here}_branch1"
                    self.conv_bn(
                        f"{there}.downsample.0", f"{there}.downsample.1", branch, branch + "_bn"
                    )

    def _add_pyramid(self, neck: str, lowest: int, highest: int) -> None:
        """Convert the FPN.

        Args:
            neck: its name in mmdetection.
            lowest: number of its finest level.
            highest: number of its coarsest level. Levels above P5 are made by convolutions.
        """
        stages = {level: f"res{level}_{_BLOCKS[level - 2] - 1}_sum" for level in range(lowest, 6)}
        for index, (level, stage) in enumerate(stages.items()):
            lateral = "" if level == 5 else "_lateral"
            self.layer(f"{neck}.lateral_convs.{index}.conv", f"fpn_inner_{stage}{lateral}")
            self.layer(f"{neck}.fpn_convs.{index}.conv", f"fpn_{stage}")
        for level in range(6, highest + 1):
            self.layer(f"{neck}.fpn_convs.{level - lowest}.conv", f"fpn_{level}")

    def _add_retinanet_heads(self) -> None:
        """Convert RetinaNet's towers and outputs. Detectron names their blobs after level 3."""
        for index in range(4):
            for there, here in (("cls_convs", "cls_conv"), ("reg_convs", "bbox_conv")):
                self.layer(f"bbox_head.{there}.{index}.conv", f"retnet_{here}_n{index}_fpn3")
        self.layer("bbox_head.retina_cls", "retnet_cls_pred_fpn3", order=_ANCHOR_ORDER)
        self.layer("bbox_head.retina_reg", "retnet_bbox_pred_fpn3", order=_ANCHOR_ORDER)

    def _add_rpn(self) -> None:
        """Convert the RPN. Detectron names its blobs after level 2, the finest one.

        The anchors have the same order in both programs.
        """
        self.layer("rpn_head.rpn_conv", "conv_rpn_fpn2")
        self.layer("rpn_head.rpn_cls", "rpn_cls_logits_fpn2")
        self.layer("rpn_head.rpn_reg", "rpn_bbox_pred_fpn2")

    def _add_box_head(self) -> None:
        """Convert the two fully connected layers and the predictions of classes and boxes."""
        head = "roi_head.bbox_head"
        for index, here in enumerate(("fc6", "fc7")):
            self.layer(f"{head}.shared_fcs.{index}", here, 2)
        self.layer(f"{head}.fc_cls", "cls_score", 2, _BACKGROUND_FIRST)
        self.layer(f"{head}.fc_reg", "bbox_pred", 2, _BACKGROUND_BOXES)


class BlobConverter(DetectorLayers):
    """Converts the tensors of a checkpoint of mmdetection and collects the blobs.

    Attributes:
        blobs: name to float32 array.
    """

    def __init__(self, source: TensorSource, settings: CheckpointSettings):
        self.blobs: dict[str, np.ndarray] = {}
        self._source, self._settings = source, settings

    def _put(self, name: str, value: np.ndarray) -> None:
        self.blobs[name] = np.ascontiguousarray(value, dtype=np.float32)

    def layer(self, there: str, here: str, dims: int = 4, order: Order = _SAME) -> None:
        """Convert a layer with bias; see `DetectorLayers.layer`."""
        weight = self._source.take(f"{there}.weight", *[None] * dims)
        bias = self._source.take(f"{there}.bias", len(weight))
        if order is _ANCHOR_ORDER:
            self._check_anchors(there, len(bias))
        self._put(here + "_w", order.to_here(weight))
        self._put(here + "_b", order.to_here(bias))
        if order is _BACKGROUND_BOXES:
            self._check_boxes(there, len(bias))

    def conv_bn(self, conv: str, norm: str, here: str, here_norm: str) -> None:
        """Convert a convolution and its BatchNorm; see `DetectorLayers.conv_bn`."""
        shape = (None, 3, None, None) if here == "conv1" else [None] * 4
        weight, scale, bias = self._source.take_conv_bn(conv, norm, _EPSILON, *shape)
        if here == "conv1":
            weight = weight / np.reshape(self._settings.std, (1, 3, 1, 1))
            weight = weight[:, ::-1] if self._settings.to_rgb else weight
        self._put(here + "_w", weight)
        self._put(here_norm + "_s", scale)
        self._put(here_norm + "_b", bias)

    def _check_anchors(self, there: str, outputs: int) -> None:
        if there.endswith("cls") and outputs % ANCHORS:
            self._source.refuse(
                f"{there} has {outputs} outputs, not a multiple of {ANCHORS} anchors"
            )
        if there.endswith("reg") and outputs != 4 * ANCHORS:
            self._source.refuse(
                f"{there} has {outputs} outputs, not 4 for each of {ANCHORS} anchors"
            )

    def _check_boxes(self, there: str, outputs: int) -> None:
        classes = len(self.blobs["cls_score_b"]) - 1
        if outputs != 4 * classes:
            self._source.refuse(
                f"{there} has {outputs} outputs, not 4 for each of {classes} classes"
            )


class TensorConverter(DetectorLayers):
    """Converts the blobs of a detector to the tensors of mmdetection, and collects these.

    A frozen scale and bias become a BatchNorm with a mean of 0 and a variance of 1 - epsilon, so
    that they convert back to the same bits. ``backbone.conv1.weight`` is float64 for the same
    reason: it is the blob times std. PyTorch rounds it when it loads the file.

    Attributes:
        tensors: name to array.
    """

    def __init__(self, source: TensorSource, settings: CheckpointSettings):
        self.tensors: dict[str, np.ndarray] = {}
        self._source, self._settings = source, settings

    def layer(self, there: str, here: str, dims: int = 4, order: Order = _SAME) -> None:
        """Convert a layer with bias; see `DetectorLayers.layer`."""
        weight = self._source.take(here + "_w", *[None] * dims)
        bias = self._source.take(here + "_b", len(weight))
        if order is _ANCHOR_ORDER and len(bias) % ANCHORS:
            self._source.refuse(f"{here} has {len(bias)} outputs, not some for each of {ANCHORS}")
        for kind, value in (("weight", weight), ("bias", bias)):
            self.tensors[f"{there}.{kind}"] = order.to_there(value).astype(np.float32)

    def conv_bn(self, conv: str, norm: str, here: str, here_norm: str) -> None:
        """Convert a convolution and its BatchNorm; see `DetectorLayers.conv_bn`."""
        weight = self._source.take(here + "_w", *[None] * 4)
        if here == "conv1":
            weight = weight[:, ::-1] if self._settings.to_rgb else weight
            self.tensors[f"{conv}.weight"] = weight * np.reshape(self._settings.std, (1, 3, 1, 1))
        else:
            self.tensors[f"{conv}.weight"] = weight.astype(np.float32)
        count = len(weight)
        scale, bias = (self._source.take(f"{here_norm}_{kind}", count) for kind in "sb")
        self.tensors.update(
            {
                f"{norm}.weight": scale.astype(np.float32),
                f"{norm}.bias": bias.astype(np.float32),
                f"{norm}.running_mean": np.zeros(count, np.float32),
                f"{norm}.running_var": np.full(count, 1 - _EPSILON, np.float32),
                f"{norm}.num_batches_tracked": np.array(0, np.int64),
            }
        )
