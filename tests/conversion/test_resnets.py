"""Residual networks of PyTorch programs: their maps, and what is said about other files."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from caffe2.python import workspace
from resnet_tensors import SHAPES, named_as, random_tensors, reference_maps
from squares import REPOSITORY

from detectron_ext import config as configuration
from detectron_ext.conversion.backbones import convert_backbone, read_backbone
from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.data.minibatch import prepare_image
from detectron_ext.engine.start_weights import start_from
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import UserError, WeightsError
from detectron_ext.modeling import build_model


def _maps(backbone, weights: str, image: np.ndarray) -> list:
    """The stages' maps of a BGR image, as a detector with the printed settings computes them."""
    height, width = image.shape[:2]
    settings = [part for pair in backbone.settings.items() for part in pair]
    size = ["TEST.SCALE", min(height, width), "TEST.MAX_SIZE", max(height, width)]
    path = REPOSITORY / "configs" / "retinanet_R-50-FPN.yaml"
    config = configuration.load(
        str(path), ["MODEL.NUM_CLASSES", 3, "NUM_GPUS", 0, *size, *settings]
    )
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    start_from(model, read_weights(weights), weights)
    data = prepare_image(image, config).image.transpose(2, 0, 1)[None]
    workspace.FeedBlob("data", np.ascontiguousarray(data))
    workspace.FeedBlob("im_info", np.float32([[height, width, 1]]))
    workspace.RunNetOnce(model.net)
    blocks = {2: 0, 3: 0, 4: 0, 5: 0}
    for name in backbone.blobs:
        if name.startswith("res") and name.endswith("_branch2a_w"):
            blocks[int(name[3])] = max(blocks[int(name[3])], int(name.split("_")[1]))
    return [workspace.FetchBlob(f"res{stage}_{last}_sum")[0] for stage, last in blocks.items()]


def _image():
    return np.random.RandomState(1).randint(0, 256, (128, 256, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "network, program, style",
    [
        ("ResNet18", "torchvision", None),
        ("ResNet34", "timm", None),
        ("ResNet50", "torchvision", None),
        ("ResNet50", "mmdet", None),
        ("ResNet50", "mmdet", "caffe"),
        ("ResNet50", "detectron2", None),
        ("ResNeXt50", "timm", None),
        ("wide ResNet50", "torchvision", None),
        ("ResNet101", "torchvision", None),
    ],
)
def test_maps_of_random_weights(network, program, style, place):
    shape = SHAPES[network]
    tensors = random_tensors(shape)
    torch.save(named_as(program, tensors), place("random.pth"))
    backbone = convert_backbone(place("random.pth"), place("random.pkl"), program, style)
    assert set(backbone.unused) <= {"fc.weight", "fc.bias", "head.fc.weight", "head.fc.bias"}
    style = style or ("caffe" if program == "detectron2" else "pytorch")
    expected = reference_maps(shape, tensors, _image(), style)
    maps = _maps(backbone, place("random.pkl"), _image())
    assert [found.shape for found in maps] == [wanted.shape for wanted in expected]
    for found, wanted in zip(maps, expected):
        assert np.abs(found - wanted).max() / np.abs(wanted).max() < 1e-5


def test_settings_follow_from_the_tensors(place):
    torch.save(random_tensors(SHAPES["ResNeXt50"]), place("a.pth"))
    assert read_backbone(place("a.pth"), "torchvision").settings == {
        "MODEL.CONV_BODY": "FPN.add_fpn_ResNet50_conv5_body",
        "PIXEL_MEANS": [[[103.53, 116.28, 123.675]]],
        "RESNETS.STRIDE_1X1": False,
        "RESNETS.NUM_GROUPS": 32,
        "RESNETS.WIDTH_PER_GROUP": 4,
    }


@pytest.mark.parametrize("node", ["state_dict", "model"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_formats_of_torch(node, is_zip, place):
    tensors = random_tensors(SHAPES["ResNet18"])
    torch.save({node: tensors}, place("a.pt"), _use_new_zipfile_serialization=is_zip)
    blobs = read_backbone(place("a.pt"), "torchvision").blobs
    np.testing.assert_array_equal(blobs["res2_0_branch2a_w"], tensors["layer1.0.conv1.weight"])


def _write_safetensors(path, tensors, kind="F32", **changes):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        numbers = value.numpy() if hasattr(value, "numpy") else value
        raw = numbers.tobytes()
        entry = {"F32": kind, "I64": "I64"}["I64" if numbers.dtype == np.int64 else "F32"]
        header[name] = {
            "dtype": entry, "shape": list(numbers.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }  # fmt: skip
        data += raw
    for name, change in changes.items():
        header[name].update(change)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def test_safetensors(place):
    tensors = random_tensors(SHAPES["ResNet18"])
    _write_safetensors(place("a.safetensors"), tensors)
    torch.save(tensors, place("a.pth"))
    blobs = read_backbone(place("a.safetensors"), "timm").blobs
    expected = read_backbone(place("a.pth"), "timm").blobs
    assert set(blobs) == set(expected)
    for name, blob in blobs.items():
        np.testing.assert_array_equal(blob, expected[name])


def test_bfloat16(place):
    value = np.float32([1.5, -0.25, 3e20])
    upper = (value.view(np.uint32) >> 16).astype(np.uint16)
    _write_safetensors(place("a.safetensors"), {"a": upper}, "BF16")
    found = read_checkpoint(place("a.safetensors")).tensors["a"]
    np.testing.assert_allclose(found, value, rtol=2**-7)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dtype": "F8"}, "type F8"),
        ({"shape": [3, 2**40]}, "shape"),
        ({"shape": [-3]}, "shape"),
        ({"shape": [2]}, "shape"),
        ({"data_offsets": [4, 16]}, "bytes 4 to 16"),
        ({"data_offsets": [-12, 0]}, "bytes -12 to 0"),
    ],
)
def test_damaged_safetensors_are_refused(change, message, place):
    _write_safetensors(place("a.safetensors"), {"a": np.float32([1, 2, 3])}, a=change)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(place("a.safetensors"))


def test_truncated_safetensors_are_refused(place):
    _write_safetensors(place("a.safetensors"), {"a": np.float32([1, 2, 3])})
    with open(place("a.safetensors"), "rb") as file:
        content = file.read()
    for size in (12, len(content) - 5):
        with open(place("b.safetensors"), "wb") as file:
            file.write(content[:size])
        with pytest.raises(WeightsError):
            read_checkpoint(place("b.safetensors"))


def _without(tensors, *prefixes):
    return {name: value for name, value in tensors.items() if not name.startswith(prefixes)}


def test_other_networks_are_named(place):
    tensors = random_tensors(SHAPES["ResNet18"])
    cases = [
        (_without(tensors, "conv1."), "torchvision", "no conv1.weight.*choose another --from"),
        (tensors, "detectron2", "no backbone.bottom_up.stem.conv1.weight"),
        (_without(tensors, "layer4.1."), "torchvision", r"\(2, 2, 2, 1\) basic blocks"),
        (_without(tensors, "layer2.0.bn2"), "torchvision", "no layer2.0.bn2.weight"),
        ({**tensors, "mask.weight": torch.zeros(1)}, "timm", "mask.weight"),
        ({**tensors, "conv1.weight": torch.zeros(64, 3, 3, 3)}, "timm", "shape"),
    ]
    for wrong, program, message in cases:
        torch.save(wrong, place("wrong.pth"))
        with pytest.raises(WeightsError, match=message):
            convert_backbone(place("wrong.pth"), place("out.pkl"), program)
    torch.save(tensors, place("a.pth"))
    with pytest.raises(UserError, match="--style caffe has no meaning"):
        read_backbone(place("a.pth"), "efficientnet_lite", "caffe")
