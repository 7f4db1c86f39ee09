"""Export of a trained model as ``net.pb`` and ``init_net.pb`` for Caffe2's predictor."""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Sequence

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import workspace

from detectron_ext import ops
from detectron_ext.config import Config, is_retinanet, reads_proposals
from detectron_ext.config.settings import Settings
from detectron_ext.config.unused_keys import warn_of_unused_test_keys
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
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.output_files import check_writable_folder, make_writable_folder, replaced_file

_INPUTS = ("data", "im_info")


def export_model(
    config: Config,
    weights: str,
    out_dir: str,
    image_size: tuple[int, int] | None = None,
    keep_custom: bool = True,
    name: str = "detectron",
) -> dict:
    """Write ``net.pb``, ``init_net.pb`` and ``net.json`` (a description) to a folder.

    The net has two inputs. ``data`` (1, 3, H, W) float32 is the image in BGR, with the means
    subtracted, scaled and padded with zeros. ``im_info`` (1, 3) float32 holds height and width of
    the scaled image without padding, and the scale. The outputs are
    :data:`detectron_ext.deployment.detection_outputs.OUTPUTS`. Proposals are clipped to H x W, as
    in testing.

    Args:
        config: a merged configuration with NUM_GPUS 0.
        weights: a weights file that fits the configuration.
        out_dir: folder for the files; it is made if needed.
        image_size: height and width in pixels of the images that the net is for. RetinaNet needs it
            for its anchors, and ``keep_custom`` False for replaced operators. Without these a
            Faster R-CNN takes images of any size.
        keep_custom: True keeps this package's operators, which need its library at run time. False
            replaces them by Caffe2's own operators.
        name: name of the net.

    Returns:
        The content of ``net.json``.

    Raises:
        UserError: the model cannot be exported, or a file cannot be read or written.
    """
    _check(config)
    if not weights:
        raise UserError("no weights to export: set TEST.WEIGHTS to a weights file")
    path = local_weights(weights)
    check_writable_folder(out_dir, "to folder", "choose another folder")
    warn_of_unused_test_keys(config)
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    classes = load_parameters(model, path).classes
    operators = model.net.Proto().op
    is_sized = is_retinanet(config) or any(op.type in SIZED and not keep_custom for op in operators)
    writer = NetWriter()
    sizes: Callable[[str], tuple] = _no_size
    if is_sized:
        if image_size is None:
            raise UserError("this net needs the size of its images: give --size HEIGHT WIDTH")
        sizes = _sizes_of_a_run(model, config, image_size)
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
    make_writable_folder(out_dir, "to folder", "choose another folder")
    _write(out_dir, files)
    return about


def _check(config: Settings) -> None:
    if config.MODEL.RPN_ONLY or reads_proposals(config):
        raise UserError("only models that detect objects in a single image can be exported")
    if not ops.native_library_loaded():
        raise UserError("exporting needs the native operators: run `make ops`")
    check_settings(config)


def _with_padded_sizes(
    writer: NetWriter, config: Settings, operators: Sequence[caffe2_pb2.OperatorDef]
) -> list[caffe2_pb2.OperatorDef]:
    """Return the operators, changed so that proposals are clipped to the size of ``data``.

    `data.minibatch.image_blobs` uses this size, too. The input ``im_info`` still holds the size of
    the image, to which detections are clipped.
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


def _network_inputs(config: Settings, image_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the inputs of the net for an empty image of image_size (height, width)."""
    height, width = image_size
    scale = resize_scale(height, width, config.TEST.SCALE, config.TEST.MAX_SIZE)
    image = np.zeros((*scaled_size(height, width, scale), 3), dtype=np.uint8)
    return image_blobs([prepare_image(image, config)], config, train=False)


def _sizes_of_a_run(
    model: DetectionModel, config: Settings, image_size: tuple[int, int]
) -> Callable[[str], tuple]:
    """Run the net on an empty image and return a function from the name of a blob to its shape."""
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


def _description(
    config: Settings, classes: list[str] | None, image_size: tuple[int, int] | None
) -> dict[str, Any]:
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
    for name, content in files.items():
        with replaced_file(os.path.join(out_dir, name)) as file:
            file.write(content)
