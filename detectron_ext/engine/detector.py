"""Running a trained model on images: detections of a detector, proposals of an RPN."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import workspace

from detectron_ext.config import is_retinanet, reads_proposals
from detectron_ext.config.unused_keys import warn_of_unused_test_keys
from detectron_ext.data.minibatch import ImageSample, image_blobs, prepare_image
from detectron_ext.engine.memory_estimate import check_test_memory
from detectron_ext.engine.parameters import feed, load_parameters
from detectron_ext.engine.rcnn_decoding import decode_regions, merge_duplicates
from detectron_ext.engine.retinanet_decoding import decode_image
from detectron_ext.engine.start_weights import local_weights
from detectron_ext.geometry.anchors import pyramid_levels
from detectron_ext.geometry.boxes import to_image_pixels
from detectron_ext.geometry.roi_levels import distribute_rois
from detectron_ext.modeling import build_model
from detectron_ext.modeling.devices import replica_scopes
from detectron_ext.modeling.folded_affine import fold_affine_channels, folded_parameters

if TYPE_CHECKING:
    from detectron_ext.config import Config

_LOG = logging.getLogger(__name__)


class TestNet:
    """The test-time net with its weights.

    It owns the Caffe2 workspace: making one resets the workspace.

    Attributes:
        classes: class names in the weights file, background first; None if it has none.
    """

    def __init__(self, config: Config, weights: str):
        path = local_weights(weights)
        warn_of_unused_test_keys(config)
        workspace.ResetWorkspace()
        self._model = build_model(config, train=False)
        self._largest = 0  # image, in pixels, that is known to fit the memory
        check_test_memory(self._model)
        workspace.RunNetOnce(self._model.param_init_net)
        self.classes = load_parameters(self._model, path).classes
        self._scope = replica_scopes(self._model.num_gpus)[0]
        self._net = self._model.net.Proto()
        if config.LIBRA.FOLD_AFFINE and not self._model.num_gpus:
            self._net = _with_folded_scales(self._net)
        self._created = False

    def check_memory(self, height: int, width: int) -> None:
        """Raise ConfigError if an image of this size needs more memory than there is."""
        if height * width > self._largest:
            check_test_memory(self._model, [(height, width)])
            self._largest = height * width

    def run(self, blobs: dict) -> None:
        """Run the net on input blobs."""
        for name, value in blobs.items():
            feed(self._model, 0, name, value)
        if not self._created:
            workspace.CreateNet(self._net, overwrite=True)
            self._created = True
        workspace.RunNet(self._net.name)

    def operators(self) -> list:
        """Return the net's operators in the order in which they run."""
        return list(self._net.op)

    def fetch(self, name: str) -> np.ndarray:
        """Return the value of a blob after the last run."""
        return workspace.FetchBlob(self._scope + name)


def _with_folded_scales(net: Any) -> Any:
    """Return a net whose convolutions do the fixed scales after them, and make their parameters.

    Args:
        net: a test net (NetDef) whose parameters are in the workspace. They stay there.
    """
    operators, folds = fold_affine_channels(net.op)
    folded = caffe2_pb2.NetDef()
    folded.CopyFrom(net)
    folded.ClearField("op")
    folded.op.extend(operators)
    for fold in folds:
        filters, scale, shift = map(workspace.FetchBlob, (fold.filters, fold.scale, fold.shift))
        bias = workspace.FetchBlob(fold.bias) if fold.bias else None
        values = folded_parameters(filters, bias, scale, shift)
        for name, value in zip((fold.folded_filters, fold.folded_bias), values):
            workspace.FeedBlob(name, value)
            folded.external_input.append(name)
    return folded


class Detector:
    """A detector with its weights, called with an image.

    Only one detector or proposer can be used at a time: making one resets the Caffe2 workspace.

    Args:
        config: a merged configuration of a detector, not of an RPN-only model.
        weights: a weights file that fits the configuration.

    Attributes:
        classes: class names in the weights file, background first; None if it has none.

    Raises:
        WeightsError: the file is missing, cannot be read or does not fit.
        ConfigError: the model cannot be built.
    """

    def __init__(self, config: Config, weights: str):
        self._config = config
        self._net = TestNet(config, weights)
        self.classes = self._net.classes
        if config.TEST.BBOX_AUG.ENABLED:
            _LOG.warning("TEST.BBOX_AUG is not supported: each image is tested in one view")

    def __call__(self, image: np.ndarray, proposals: np.ndarray | None = None) -> np.ndarray:
        """Detect objects.

        Args:
            image: (height, width, 3) uint8, BGR.
            proposals: (P, 4) float32 in pixels of the image; only for Fast R-CNN, which needs them.

        Returns:
            (D, 6) float32 rows x1, y1, x2, y2, score, class (from 1) in pixels of the image, best
            score first.
        """
        self._net.check_memory(*image.shape[:2])
        sample = prepare_image(image, self._config, proposals)
        if is_retinanet(self._config):
            return self._detect_densely(image, sample)
        if reads_proposals(self._config):
            return self._detect_in_proposals(image, sample)
        self._net.run(image_blobs([sample], self._config, train=False))
        boxes = to_image_pixels(self._net.fetch("rois")[:, 1:], sample.scale, self._config)
        return self._decode_regions(image, boxes)

    def _detect_densely(self, image: np.ndarray, sample: ImageSample) -> np.ndarray:
        self._net.run(image_blobs([sample], self._config, train=False))
        outputs = {
            level: tuple(
                self._net.fetch(f"retnet_{kind}_fpn{level}")[0]
                for kind in ("cls_prob", "bbox_pred")
            )
            for level in pyramid_levels(self._config)
        }
        height, width = image.shape[:2]
        return decode_image(outputs, sample.scale, height, width, self._config)

    def _detect_in_proposals(self, image: np.ndarray, sample: ImageSample) -> np.ndarray:
        if not len(sample.proposals):
            return np.zeros((0, 6), dtype=np.float32)
        first, which = merge_duplicates(sample.proposals, self._config)
        rois = np.insert(sample.proposals[first], 0, np.float32(0), axis=1)
        blobs = {**image_blobs([sample], self._config, train=False), "rois": rois}
        if self._config.FPN.FPN_ON:
            blobs.update(distribute_rois(rois, self._config))
        self._net.run(blobs)
        return self._decode_regions(image, rois[:, 1:] / np.float32(sample.scale), which)

    def _decode_regions(
        self, image: np.ndarray, boxes: np.ndarray, which: slice | np.ndarray = slice(None)
    ) -> np.ndarray:
        """Decode the box head's outputs for regions (R, 4).

        ``which`` selects rows of the regions and the outputs; a row may be taken several times.
        """
        probabilities, deltas = (
            output.reshape(output.shape[:2])[which]
            for output in map(self._net.fetch, ("cls_prob", "bbox_pred"))
        )
        height, width = image.shape[:2]
        return decode_regions(boxes[which], probabilities, deltas, height, width, self._config)


class Proposer:
    """An RPN with its weights, called with an image; otherwise as :class:`Detector`.

    Args:
        config: a merged configuration with MODEL.RPN_ONLY.
        weights: a weights file that fits the configuration.
    """

    def __init__(self, config: Config, weights: str):
        self._config = config
        self._net = TestNet(config, weights)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Propose regions that may show objects.

        Args:
            image: (height, width, 3) uint8, BGR.

        Returns:
            boxes: (P, 4) float32 in pixels of the image, best score first, at most
                TEST.RPN_POST_NMS_TOP_N.
            scores: (P,) float32.
        """
        self._net.check_memory(*image.shape[:2])
        sample = prepare_image(image, self._config)
        self._net.run(image_blobs([sample], self._config, train=False))
        boxes = to_image_pixels(self._net.fetch("rpn_rois")[:, 1:], sample.scale, self._config)
        return boxes, self._net.fetch("rpn_roi_probs").ravel()
