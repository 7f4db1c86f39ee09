"""Random weights of mmdetection's detectors, from their parameters' names alone.

Every parameter is drawn from a generator of its own, seeded by its name, so that the same weights
come about with and without mmdetection. Statistics, scales and biases are random too: a zero or a
one in their place would hide a mistake. Needs numpy alone: the peer program uses it as well.
"""

from __future__ import annotations

import zlib

import numpy as np

ARCHITECTURES = ("libra_retinanet_r50", "retinanet_r50", "libra_faster_rcnn_r50", "faster_rcnn_r50")
CLASSES = 80
_BN = ("weight", "bias", "running_mean", "running_var")


def shapes(arch: str) -> dict:
    """Parameter name to shape."""
    found: dict = {}

    def conv(name, dim_out, dim_in, kernel=1):
        found[name + ".weight"] = (dim_out, dim_in, kernel, kernel)
        found[name + ".bias"] = (dim_out,)

    def linear(name, dim_out, dim_in):
        found[name + ".weight"], found[name + ".bias"] = (dim_out, dim_in), (dim_out,)

    _add_backbone(found)
    is_retinanet, is_libra = "retinanet" in arch, arch.startswith("libra")
    neck = "neck.0" if is_libra else "neck"
    for index, dim in enumerate((512, 1024, 2048) if is_retinanet else (256, 512, 1024, 2048)):
        conv(f"{neck}.lateral_convs.{index}.conv", 256, dim)
        conv(f"{neck}.fpn_convs.{index}.conv", 256, 256, 3)
    if is_libra:
        for name in ("g", "theta", "phi", "conv_out"):
            conv(f"neck.1.refine.{name}.conv", 256, 256)
    if is_retinanet:
        conv(f"{neck}.fpn_convs.3.conv", 256, 2048, 3)
        conv(f"{neck}.fpn_convs.4.conv", 256, 256, 3)
        for index in range(4):
            conv(f"bbox_head.cls_convs.{index}.conv", 256, 256, 3)
            conv(f"bbox_head.reg_convs.{index}.conv", 256, 256, 3)
        conv("bbox_head.retina_cls", 9 * CLASSES, 256, 3)
        conv("bbox_head.retina_reg", 9 * 4, 256, 3)
        return found
    conv("rpn_head.rpn_conv", 256, 256, 3)
    conv("rpn_head.rpn_cls", 3, 256)
    conv("rpn_head.rpn_reg", 12, 256)
    head = "roi_head.bbox_head"
    linear(f"{head}.shared_fcs.0", 1024, 256 * 49)
    linear(f"{head}.shared_fcs.1", 1024, 1024)
    linear(f"{head}.fc_cls", CLASSES + 1, 1024)
    linear(f"{head}.fc_reg", 4 * CLASSES, 1024)
    return found


def _add_backbone(found):
    def conv_bn(conv, norm, dim_out, dim_in, kernel):
        found[f"backbone.{conv}.weight"] = (dim_out, dim_in, kernel, kernel)
        for kind in _BN:
            found[f"backbone.{norm}.{kind}"] = (dim_out,)
        found[f"backbone.{norm}.num_batches_tracked"] = ()

    conv_bn("conv1", "bn1", 64, 3, 7)
    dim_in = 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        dim = 64 * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            conv_bn(f"{name}.conv1", f"{name}.bn1", dim, dim_in, 1)
            conv_bn(f"{name}.conv2", f"{name}.bn2", dim, dim, 3)
            conv_bn(f"{name}.conv3", f"{name}.bn3", 4 * dim, dim, 1)
            if block == 0:
                conv_bn(f"{name}.downsample.0", f"{name}.downsample.1", 4 * dim, dim_in, 1)
            dim_in = 4 * dim


def random_state(arch: str) -> dict:
    """Parameter name to float32 array (the counters int64)."""
    return {name: _draw(name, shape) for name, shape in shapes(arch).items()}


def _draw(name, shape):
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(7, dtype=np.int64)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith(".weight")):
        value = rng.uniform(0.5, 1.0, shape)
    elif len(shape) == 1:
        value = rng.normal(0, 0.1, shape)
        if name.endswith("retina_cls.bias"):
            value -= 3.0
    else:
        value = rng.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[1:])) * _gain(name)
    return value.astype(np.float32)


# What would saturate a softmax or a sigmoid, or throw boxes far, is drawn smaller.
_GAINS = {".theta.": 0.2, ".phi.": 0.2, "_reg.": 0.3, "retina_cls.": 0.3, "rpn_cls.": 0.1}


def _gain(name):
    return next((gain for part, gain in _GAINS.items() if part in name), 1.0)


def synthetic_image() -> np.ndarray:
    """(100, 150, 3) uint8: waves and noise; neither side is a multiple of the padding's."""
    y, x, c = np.meshgrid(np.arange(100), np.arange(150), np.arange(3), indexing="ij")
    waves = 128 + 60 * np.sin(x / (7.0 + 3 * c)) + 40 * np.cos(y / (5.0 + 4 * c))
    noise = np.random.RandomState(5).uniform(-25, 25, waves.shape)
    return np.clip(waves + noise, 0, 255).astype(np.uint8)


def regions(height: int, width: int) -> np.ndarray:
    """(40, 4) float32 regions x1, y1, x2, y2 (edges) of all sizes within an image."""
    rng = np.random.RandomState(11)
    size = np.exp(rng.uniform(np.log(6), np.log(max(height, width)), (40, 2)))
    size = np.minimum(size, [width, height])
    corner = rng.uniform(0, 1, (40, 2)) * ([width, height] - size)
    return np.concatenate((corner, corner + size), axis=1).astype(np.float32)
