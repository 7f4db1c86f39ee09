"""A detector that was exported as an ONNX model and runs in onnxruntime, without Caffe2's nets."""

from __future__ import annotations

import json
from typing import Any, Sequence

import numpy as np

from detectron_ext import config as configuration
from detectron_ext.config import Config
from detectron_ext.data.transforms import resize, resize_scale
from detectron_ext.errors import UserError
from detectron_ext.local_files import local_file
from detectron_ext.optional_packages import import_optional

METADATA = "detectron_ext"
"""Key of the model's metadata under which its description is stored as JSON."""

INPUTS = ("image", "image_info")
OUTPUTS = ("boxes", "scores", "classes")

_SETTINGS = {
    "scale": "TEST.SCALE",
    "max_size": "TEST.MAX_SIZE",
    "detections_per_im": "TEST.DETECTIONS_PER_IM",
    "num_classes": "MODEL.NUM_CLASSES",
}


class OnnxDetector:
    """An exported detector, called with an image as `engine.detector.Detector` is.

    Args:
        path: a model that tools/export_onnx.py wrote.

    Attributes:
        classes: class names, background first; None if the weights had none.

    Raises:
        UserError: onnxruntime is missing, or the file cannot be used.
    """

    def __init__(self, path: str):
        runtime = import_optional("onnxruntime", "running an ONNX model")
        path = local_file(path, "model", "give its path", UserError)
        try:
            self._session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for each fault
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{path} is no ONNX model that onnxruntime can run: {reason}"
            ) from error
        self._about = _description(self._session, path)
        self._type = np.dtype(self._about["input_type"])
        self.classes: list[str] | None = self._about["classes"]

    def config(self, overrides: Sequence[Any] = ()) -> Config:
        """Return a configuration with the model's settings, for the tools that need one.

        Args:
            overrides: KEY VALUE pairs for what is not part of the model.

        Raises:
            ConfigError: a pair is wrong, or would change what is fixed in the model.
        """
        # What the tools ask of a configuration is the same for every detector of single images.
        fixed: list[Any] = ["MODEL.FASTER_RCNN", True]
        for name, key in _SETTINGS.items():
            fixed += [key, self._about[name]]
        for key in map(str, overrides[::2]):
            if not key.startswith("LIBRA.DATA."):
                raise UserError(
                    f"{key} is fixed in an ONNX model: only keys of LIBRA.DATA can be set; "
                    "export the model again with the other value"
                )
        return configuration.load(None, [*fixed, "NUM_GPUS", 0, *overrides])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Detect objects.

        Args:
            image: (height, width, 3) uint8, BGR.

        Returns:
            (D, 6) float32 rows x1, y1, x2, y2, score, class (from 1) in pixels of the image, best
            score first.

        Raises:
            UserError: the model was exported for images of another size.
        """
        height, width = image.shape[:2]
        size = self._about.get("image_size", [height, width])
        if size != [height, width]:
            raise UserError(
                f"the model is for images of {size[0]} x {size[1]} pixels (height x width) and "
                f"this one has {height} x {width}: export it without --size"
            )
        scale = resize_scale(height, width, self._about["scale"], self._about["max_size"])
        scaled = resize(image.astype(self._type), scale)
        info = np.array([height, width, scale], dtype=np.float32)
        boxes, scores, classes = self._session.run(OUTPUTS, dict(zip(INPUTS, (scaled, info))))
        return np.column_stack((boxes, scores, classes)).astype(np.float32)


def _description(session: Any, path: str) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if text is None:
        raise UserError(f"{path} was not written by tools/export_onnx.py: it has no description")
    try:
        about = json.loads(text)
        missing = {*_SETTINGS, "input_type", "classes"} - set(about)
    except (ValueError, TypeError):
        missing = {METADATA}
    if missing:
        raise UserError(f"{path}: its description lacks {', '.join(sorted(missing))}")
    return about
