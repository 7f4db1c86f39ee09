"""Export of a trained model as ``net.pb`` and ``init_net.pb`` for Caffe2's predictor."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import workspace

from detectron_ext import ops
from detectron_ext.config import is_retinanet, reads_proposals
from detectron_ext.data.minibatch import image_blobs, prepare_image
from detectron_ext.data.transforms import resize_scale, scaled_size
from detectron_ext.deployment.detection_outputs import (
    OUTPUTS,
    add_region_detections,
    add_retinanet_detections,
    check_settings,
)
from detectron_ext.deployment.net_writer import NetWriter
from detectron_ext.deployment.stock_operators import SIZED, expand
from detectron_ext.engine.parameters import load_parameters
from detectron_ext.engine.start_weights import local_weights
from detectron_ext.errors import UserError
from detectron_ext.modeling import build_model

_INPUTS = ("data", "im_info")


def export_model(
    config,
    weights: str,
    out_dir: str,
    image_size: tuple | None = None,
    keep_custom: bool = True,
    name: str = "detectron",
) -> dict:
    """Write ``net.pb``, ``init_net.pb`` and ``net.json`` (a description) to a folder.

    The inputs of the net are ``data``, (1, 3, H, W) float32, the image in BGR with the means
    subtracted, scaled and padded with zeros; and ``im_info``, (1, 3) float32, height and width of
    the scaled image without padding, and the scale. The outputs are
    :data:`detectron_ext.deployment.detection_outputs.OUTPUTS`. Proposals are clipped to H x W, as
    in testing.

    Args:
        config: a merged configuration with NUM_GPUS 0.
        weights: a weights file that fits the configuration.
        out_dir: folder for the files; it is made if needed.
        image_size: height and width in pixels of the images that the net is for. It is required for
            RetinaNet's anchors and for replaced operators; otherwise a Faster R-CNN takes any size.
        keep_custom: keep this package's operators, which need its library at run time. If False,
            they are replaced by Caffe2's own operators.
        name: name of the net.

    Returns:
        The content of ``net.json``.

    Raises:
        UserError: the model cannot be exported, or a file cannot be read or written.
    """
    _check(config)
    path = local_weights(weights)
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    classes = load_parameters(model, path, require_all=True)
    operators = model.net.Proto().op
    is_sized = is_retinanet(config) or any(op.type in SIZED and not keep_custom for op in operators)
    if is_sized and image_size is None:
        raise UserError("this net is for images of one size: give it with --size HEIGHT WIDTH")
    writer = NetWriter()
    sizes = _sizes_of_a_run(model, config, image_size) if is_sized else _no_size
    for operator in _with_padded_sizes(writer, config, operators):
        expand(writer, operator, sizes, keep_custom)
    _add_parameters(writer)
    if is_retinanet(config):
        add_retinanet_detections(writer, config, sizes, "im_info")
    else:
        add_region_detections(writer, config, "im_info")
    about = _description(config, classes, image_size if is_sized else None)
    net, init_net = writer.nets(name, _INPUTS, OUTPUTS)
    files = {
        "net.pb": net.SerializeToString(),
        "init_net.pb": init_net.SerializeToString(),
        "net.json": (json.dumps(about, indent=1) + "\n").encode(),
    }
    _write(out_dir, files)
    return about


def _check(config) -> None:
    if config.MODEL.RPN_ONLY or reads_proposals(config):
        raise UserError("only models that detect objects in a single image can be exported")
    if not ops.native_library_loaded():
        raise UserError("exporting needs the native operators: run `make ops`")
    check_settings(config)


def _with_padded_sizes(writer: NetWriter, config, operators) -> list:
    """Return the operators, changed so that proposals are clipped to the size of ``data``.

    This is the size in `data.minibatch.image_blobs`. The fed ``im_info`` keeps the size of the
    image, to which detections are clipped.
    """
    if is_retinanet(config) or config.LIBRA.BOX_CONVENTION == "mmdet":
        return list(operators)
    size = writer.add("Shape", ["data"], "padded_shape", axes=[2, 3])
    size = writer.add("Cast", [size], "padded_sides", to=1)
    size = writer.add("Reshape", [size], "padded_size", ["padded_size_old"], shape=[1, 2])
    scale = writer.add("Slice", ["im_info"], "padded_scale", starts=[0, 2], ends=[-1, 3])
    padded = writer.add("Concat", [size, scale], "padded_im_info", ["padded_split"], axis=1)
    changed = []
    for operator in operators:
        copy = caffe2_pb2.OperatorDef()
        copy.CopyFrom(operator)
        inputs = [padded if blob == "im_info" else blob for blob in operator.input]
        copy.input[:] = inputs
        changed.append(copy)
    return changed


def _no_size(blob: str) -> tuple:
    raise AssertionError(f"the size of {blob} is unknown")


def _network_inputs(config, image_size: tuple) -> dict:
    """Return inputs of the size that an image of image_size (height, width) gets."""
    height, width = image_size
    scale = resize_scale(height, width, config.TEST.SCALE, config.TEST.MAX_SIZE)
    image = np.zeros((*scaled_size(height, width, scale), 3), dtype=np.uint8)
    return image_blobs([prepare_image(image, config)], config, train=False)


def _sizes_of_a_run(model, config, image_size):
    """Return a function from blob name to shape, found by a run on an empty image."""
    for blob, value in _network_inputs(config, image_size).items():
        workspace.FeedBlob(blob, value)
    workspace.RunNetOnce(model.net)
    return lambda blob: workspace.FetchBlob(blob).shape


def _add_parameters(writer: NetWriter) -> None:
    """Add the constants of the net: the blobs that its operators read and do not write."""
    made = {*_INPUTS, *writer.constants}
    for operator in writer.operators:
        for blob in operator.input:
            if blob not in made:
                writer.constant(blob, workspace.FetchBlob(blob))
                made.add(blob)
        made.update(operator.output)


def _description(config, classes, image_size) -> dict[str, Any]:
    about: dict[str, Any] = {
        "pixel_means": np.asarray(config.PIXEL_MEANS).ravel().tolist(),
        "scale": config.TEST.SCALE,
        "max_size": config.TEST.MAX_SIZE,
        "stride": config.FPN.COARSEST_STRIDE if config.FPN.FPN_ON else 1,
        "classes": classes,
    }
    if image_size is not None:
        about["image_size"] = list(image_size)
        about["data_shape"] = list(_network_inputs(config, image_size)["data"].shape)
    return about


def _write(out_dir: str, files: dict[str, bytes]) -> None:
    try:
        os.makedirs(out_dir, exist_ok=True)
        for name, content in files.items():
            with open(os.path.join(out_dir, name), "wb") as file:
                file.write(content)
    except OSError as error:
        raise UserError(f"cannot write to folder {out_dir}: {error.strerror}") from error
