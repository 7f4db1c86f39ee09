"""A trained detector: images in, detections out."""

from __future__ import annotations

import numpy as np
from caffe2.python import workspace

from detectron_ext.data import transforms
from detectron_ext.data.minibatch import ImageSample, image_blobs
from detectron_ext.engine.checkpoints import local_weights
from detectron_ext.engine.parameters import feed, load_parameters
from detectron_ext.engine.retinanet_decoding import decode_image
from detectron_ext.modeling import build_model
from detectron_ext.modeling.devices import replica_scopes
from detectron_ext.sampling.retinanet_targets import pyramid_levels


class Detector:
    """Loads weights into the test-time net and runs it on images.

    One detector owns the Caffe2 workspace at a time: making one resets it.

    Args:
        config: a merged configuration.
        weights: a weights file that fits it.

    Attributes:
        classes: class names the weights file states, background first, or None.

    Raises:
        WeightsError: the file is missing, unreadable or does not fit.
        ConfigError: the model cannot be built.
    """

    def __init__(self, config, weights: str):
        self._config = config
        path = local_weights(weights)
        workspace.ResetWorkspace()
        self._model = build_model(config, train=False)
        workspace.RunNetOnce(self._model.param_init_net)
        self.classes = load_parameters(self._model, path, require_all=True)
        self._created = False

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Detect objects.

        Args:
            image: (height, width, 3) uint8, BGR.

        Returns:
            (D, 6) float32 rows x1, y1, x2, y2, score, class (1-based) in image pixels, best first.
        """
        height, width = image.shape[:2]
        sample = self._prepare(image)
        for name, value in image_blobs([sample], self._config).items():
            feed(self._model, 0, name, value)
        if not self._created:
            workspace.CreateNet(self._model.net, overwrite=True)
            self._created = True
        workspace.RunNet(self._model.net.Proto().name)
        return decode_image(self._outputs(), sample.scale, height, width, self._config)

    def _prepare(self, image):
        settings = self._config.TEST
        height, width = image.shape[:2]
        scale = transforms.resize_scale(height, width, settings.SCALE, settings.MAX_SIZE)
        pixels = transforms.subtract_means(image, self._config.PIXEL_MEANS)
        return ImageSample(
            image=transforms.resize(pixels, scale),
            scale=scale,
            boxes=np.zeros((0, 4), dtype=np.float32),
            classes=np.zeros(0, dtype=np.int32),
            is_crowd=np.zeros(0, dtype=bool),
            record=None,
        )

    def _outputs(self) -> dict:
        scope = replica_scopes(self._model.num_gpus)[0]
        return {
            level: tuple(
                workspace.FetchBlob(f"{scope}retnet_{kind}_fpn{level}")[0]
                for kind in ("cls_prob", "bbox_pred")
            )
            for level in pyramid_levels(self._config)
        }
