"""Export of a trained detector as an ONNX model."""

from __future__ import annotations

import json
import os

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import workspace

from detectron_ext.config import Config, is_retinanet, reads_proposals
from detectron_ext.config.settings import Settings
from detectron_ext.config.unused_keys import warn_of_unused_test_keys
from detectron_ext.data.transforms import resize_scale, scaled_size
from detectron_ext.deployment.onnx_detector import INPUTS, METADATA, OUTPUTS
from detectron_ext.deployment.to_onnx import detections
from detectron_ext.deployment.to_onnx.graph import Graph, Value
from detectron_ext.deployment.to_onnx.operators import Operator, translate
from detectron_ext.engine.parameters import load_parameters
from detectron_ext.engine.start_weights import local_weights
from detectron_ext.errors import UserError
from detectron_ext.modeling import build_model
from detectron_ext.output_files import check_writable_folder, make_writable_folder, replaced_file


def export_onnx(
    config: Config,
    weights: str,
    path: str,
    image_size: tuple[int, int] | None = None,
    input_type: str = "float32",
) -> dict:
    """Write a trained detector as an ONNX model that turns an image into boxes.

    The model has two inputs. ``image`` (height, width, 3) is the scaled image in BGR without any
    other preparation. ``image_info`` (3,) float32 holds the height and the width of the image
    before scaling, in pixels, and the scale. The outputs are ``boxes`` (D, 4) float32 x1, y1, x2,
    y2 in pixels of the image before scaling, ``scores`` (D,) float32 and ``classes`` (D,) int64
    from 1, best score first. Means, padding, anchors, decoding, suppression and the limit of
    detections are part of the model.

    Args:
        config: a merged configuration with NUM_GPUS 0.
        weights: a weights file that fits the configuration.
        path: name of the file; its folder is made if needed.
        image_size: height and width in pixels of all images, before scaling. None for a model that
            takes images of any size.
        input_type: type of ``image``, "float32" or "uint8".

    Returns:
        The description that is stored with the model as JSON.

    Raises:
        UserError: the model cannot be exported, or a file cannot be read or written.
    """
    _check(config, weights)
    source = local_weights(weights)
    if os.path.isdir(path) or path.endswith(os.sep):
        raise UserError(f"--out {path} is a folder: name a file in it, such as model.onnx")
    folder = os.path.dirname(path) or "."
    check_writable_folder(folder, "to folder", "choose another folder")
    warn_of_unused_test_keys(config)
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    classes = load_parameters(model, source).classes
    about = _description(config, classes, input_type)
    network_size: tuple = ("height", "width")
    if image_size is not None:
        about["image_size"] = list(image_size)
        scale = resize_scale(*image_size, config.TEST.SCALE, config.TEST.MAX_SIZE)
        network_size = scaled_size(*image_size, scale)
    content = _build(config, model.net.Proto().op, network_size, input_type, about)
    make_writable_folder(folder, "to folder", "choose another folder")
    with replaced_file(path) as file:
        file.write(content)
    return about


def _check(config: Settings, weights: str) -> None:
    if config.MODEL.RPN_ONLY or reads_proposals(config):
        raise UserError("only models that detect objects in a single image can be exported")
    if not weights:
        raise UserError("no weights to export: set TEST.WEIGHTS to a weights file")
    detections.check_settings(config)


def _description(config: Settings, classes: list[str] | None, input_type: str) -> dict:
    return {
        "classes": classes,
        "num_classes": config.MODEL.NUM_CLASSES,
        "input_type": input_type,
        "scale": config.TEST.SCALE,
        "max_size": config.TEST.MAX_SIZE,
        "pixel_means": np.asarray(config.PIXEL_MEANS).ravel().tolist(),
        "stride": config.FPN.COARSEST_STRIDE if config.FPN.FPN_ON else 1,
        "score_thresh": (
            config.RETINANET.INFERENCE_TH if is_retinanet(config) else config.TEST.SCORE_THRESH
        ),
        "nms": config.TEST.NMS,
        "detections_per_im": config.TEST.DETECTIONS_PER_IM,
    }


def _build(
    config: Settings,
    operators: list[caffe2_pb2.OperatorDef],
    network_size: tuple,
    input_type: str,
    about: dict,
) -> bytes:
    """Return the ONNX model as bytes; ``network_size`` is (height, width) of the scaled image."""
    graph = Graph(OUTPUTS)
    image, image_info = (
        graph.input(name, dtype) for name, dtype in zip(INPUTS, (input_type, np.float32))
    )
    size = detections.ImageSize(image_info)
    blobs = _Blobs(graph)
    blobs["data"] = _prepared(graph, config, image)
    blobs["im_info"] = _network_info(graph, config, image, blobs["data"], size)
    for definition in operators:
        blobs.run(definition)
    decode = (
        detections.add_retinanet_detections
        if is_retinanet(config)
        else detections.add_region_detections
    )
    found = decode(graph, config, blobs.__getitem__, size)
    outputs = [graph.output(value, name) for name, value in zip(OUTPUTS, found)]
    shapes = (["detections", 4], ["detections"], ["detections"])
    model = graph.model(
        [(image, [*network_size, 3]), (image_info, [3])],
        list(zip(outputs, shapes)),
        {METADATA: json.dumps(about)},
    )
    return model.SerializeToString()


def _prepared(graph: Graph, config: Settings, image: Value) -> Value:
    """Return the network's input (1, 3, H, W): means subtracted, padded with zeros."""
    means = graph.constant(np.asarray(config.PIXEL_MEANS).reshape(3), np.float32)
    data = (image.to(np.float32) - means).transpose(2, 0, 1).unsqueeze(0)
    if not config.FPN.FPN_ON:
        return data
    stride = int(config.FPN.COARSEST_STRIDE)
    missing = [(stride - data.size(axis) % stride) % stride for axis in (2, 3)]
    pads = graph.sizes(0, 0, 0, 0, 0, 0, *missing)
    return graph.add("Pad", [data, pads], "data")


def _network_info(
    graph: Graph, config: Settings, image: Value, data: Value, size: detections.ImageSize
) -> Value:
    """Return ``im_info`` (1, 3): proposals are clipped to this size, see `data.minibatch`."""
    sized, axes = (data, (2, 3)) if config.LIBRA.BOX_CONVENTION == "detectron" else (image, (0, 1))
    height, width = (sized.size(axis).to(np.float32) for axis in axes)
    return graph.stack([height, width, size.scale], 0, "im_info").unsqueeze(0)


class _Blobs:
    """The latest value of every Caffe2 blob in the graph; parameters are added when first read."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._values: dict[str, Value] = {}
        self._parameters: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            array = workspace.FetchBlob(name)
            self._parameters[name] = array
            self._values[name] = self._graph.constant(array, array.dtype, name)
        return self._values[name]

    def __setitem__(self, name: str, value: Value) -> None:
        self._values[name] = value

    def run(self, definition: caffe2_pb2.OperatorDef) -> None:
        """Translate an operator and take its outputs."""
        inputs = [self[name] for name in definition.input]
        constants = {
            index: self._parameters[name]
            for index, name in enumerate(definition.input)
            if name in self._parameters
        }
        operator = Operator(definition, inputs, constants)
        self._values.update(zip(operator.outputs, translate(self._graph, operator)))
