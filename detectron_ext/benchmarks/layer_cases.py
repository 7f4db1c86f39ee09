"""Layers whose CPU implementations the native library replaces or adds."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from detectron_ext import ops
from detectron_ext.benchmarks import pytorch_formulas as eager
from detectron_ext.benchmarks.operator_case import OperatorCase, normal

_SHAPE = (2, 256, 64, 64)


def layer_cases(rng: np.random.Generator) -> list[OperatorCase]:
    """Return the cases of every layer."""
    return [
        *_convolutions(rng),
        _fully_connected(rng),
        *_normalisations(rng),
        *_maps(rng),
        *_selections(rng),
        _softmax(rng),
        *_roi_poolings(rng),
        _momentum_update(rng),
    ]


def _describe(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _convolutions(rng: np.random.Generator) -> list[OperatorCase]:
    return [_convolution(rng, 256, 3), _convolution(rng, 64, 1)]


def _convolution(rng: np.random.Generator, filters: int, kernel: int) -> OperatorCase:
    inputs = {
        "x": normal(rng, *_SHAPE),
        "w": 0.02 * normal(rng, filters, _SHAPE[1], kernel, kernel),
        "b": normal(rng, filters),
    }
    shape = {"kernel": kernel, "pad": kernel // 2, "order": "NCHW"}
    return OperatorCase(
        "Conv",
        f"{_describe(_SHAPE)}, {filters} filters {kernel}x{kernel}",
        inputs,
        lambda net: [net.Conv(list(inputs), "y", **shape)],
        lambda t: [F.conv2d(t["x"], t["w"], t["b"], padding=kernel // 2)],
        tuple(inputs),
    )


def _fully_connected(rng: np.random.Generator) -> OperatorCase:
    inputs = {
        "x": normal(rng, 512, 12544),
        "w": 0.01 * normal(rng, 1024, 12544),
        "b": normal(rng, 1024),
    }
    return OperatorCase(
        "FC",
        "512x12544 to 1024",
        inputs,
        lambda net: [net.FC(list(inputs), "y")],
        lambda t: [F.linear(t["x"], t["w"], t["b"])],
        tuple(inputs),
    )


def _normalisations(rng: np.random.Generator) -> list[OperatorCase]:
    inputs = {"x": normal(rng, *_SHAPE), "scale": normal(rng, 256), "bias": normal(rng, 256)}
    return [
        OperatorCase(
            "GroupNorm",
            f"{_describe(_SHAPE)}, 32 groups",
            inputs,
            lambda net: [net.GroupNorm(list(inputs), ["y", "mu", "rsig"], group=32)[0]],
            lambda t: [F.group_norm(t["x"], 32, t["scale"], t["bias"])],
            tuple(inputs),
        ),
        OperatorCase(
            "AffineChannel",
            _describe(_SHAPE),
            inputs,
            lambda net: [net.AffineChannel(list(inputs), "y")],
            lambda t: [t["x"] * t["scale"].view(1, -1, 1, 1) + t["bias"].view(1, -1, 1, 1)],
            ("x",),
        ),
    ]


def _maps(rng: np.random.Generator) -> list[OperatorCase]:
    x = {"x": normal(rng, *_SHAPE)}
    two = {**x, "x2": normal(rng, *_SHAPE)}
    small = {"x": normal(rng, 2, 256, 32, 32)}
    pooling = {"kernel": 3, "stride": 2, "pad": 1}
    return [
        OperatorCase(
            "Relu", _describe(_SHAPE), x,
            lambda net: [net.Relu("x", "y")],
            lambda t: [F.relu(t["x"])], ("x",),
        ),
        OperatorCase(
            "MaxPool", f"{_describe(_SHAPE)}, 3x3 stride 2", x,
            lambda net: [net.MaxPool("x", "y", order="NCHW", **pooling)],
            lambda t: [F.max_pool2d(t["x"], 3, 2, 1)], ("x",),
        ),
        OperatorCase(
            "Sum", f"2 of {_describe(_SHAPE)}", two,
            lambda net: [net.Sum(["x", "x2"], "y")],
            lambda t: [t["x"] + t["x2"]], (),
        ),
        OperatorCase(
            "UpsampleNearest", f"{_describe(small['x'].shape)}, twice", small,
            lambda net: [ops.upsample_nearest(net, "x", "y", scale=2)],
            lambda t: [F.interpolate(t["x"], scale_factor=2.0, mode="nearest")], ("x",),
        ),
    ]  # fmt: skip


def _selections(rng: np.random.Generator) -> list[OperatorCase]:
    wide = {"a": normal(rng, 2, 12, 256, 256), "b": np.zeros((2, 12, 200, 250), np.float32)}
    rows = {
        "x": normal(rng, 512, 256, 14, 14),
        "labels": (rng.random(512) < 0.25).astype(np.int32),
    }
    return [
        OperatorCase(
            "SpatialNarrowAs", "2x12x256x256 to 200x250", wide,
            lambda net: [net.SpatialNarrowAs(["a", "b"], "c")],
            lambda t: [t["a"][:, :, :200, :250].contiguous()], ("a",),
        ),
        OperatorCase(
            "SampleAs", "a quarter of 512x256x14x14", rows,
            lambda net: [net.SampleAs(["x", "labels"], "y")],
            lambda t: [t["x"][t["labels"] > 0]], ("x",),
        ),
    ]  # fmt: skip


def _softmax(rng: np.random.Generator) -> OperatorCase:
    inputs = {"x": normal(rng, 1, 729, 100, 168)}
    return OperatorCase(
        "GroupSpatialSoftmax",
        "1x729x100x168, 81 classes",
        inputs,
        lambda net: [ops.group_spatial_softmax(net, "x", "y", num_classes=81)],
        lambda t: [eager.group_spatial_softmax(t["x"], 81)],
        ("x",),
    )


def _roi_poolings(rng: np.random.Generator) -> list[OperatorCase]:
    count, scale, bins = 256, 1 / 16, 7
    corners = np.sort(rng.uniform(0, 780, (count, 2, 2)), axis=1).reshape(count, 4)
    rois = np.hstack((np.zeros((count, 1)), corners)).astype(np.float32)
    whole = {"x": normal(rng, 1, 256, 50, 50), "rois": rois}
    sensitive = {"x": normal(rng, 1, 10 * bins**2, 50, 50), "rois": rois}
    pooled = {"pooled_h": bins, "pooled_w": bins, "spatial_scale": scale}
    grouped = {"group_size": bins, "output_dim": 10, "spatial_scale": scale}
    return [
        OperatorCase(
            "RoIPoolF", f"{count} boxes of 256x50x50 to {bins}x{bins}", whole,
            lambda net: [net.RoIPoolF(["x", "rois"], ["y", "argmax"], **pooled)[0]],
            lambda t: [eager.roi_pool(t["x"], t["rois"], (bins, bins), scale)], ("x",),
        ),
        OperatorCase(
            "PSRoIPool", f"{count} boxes of {10 * bins**2}x50x50 to {bins}x{bins}", sensitive,
            lambda net: [net.PSRoIPool(["x", "rois"], ["y", "channels"], **grouped)[0]],
            lambda t: [eager.ps_roi_pool(t["x"], t["rois"], bins, scale)], ("x",),
        ),
        OperatorCase(
            "RoIAlign", f"{count} boxes of 256x50x50 to {bins}x{bins}", whole,
            lambda net: [net.RoIAlign(["x", "rois"], "y", sampling_ratio=2, **pooled)],
            lambda t: [eager.roi_align(t["x"], t["rois"], bins, scale, 2)], ("x",),
        ),
    ]  # fmt: skip


def _momentum_update(rng: np.random.Generator) -> OperatorCase:
    size = 4_000_000
    inputs = {name: normal(rng, size) for name in ("gradient", "velocity", "parameter")}
    inputs["rate"] = np.array([1e-6], dtype=np.float32)

    def formula(t):
        with torch.no_grad():
            t["velocity"].mul_(0.9).add_(t["gradient"] * t["rate"])
            t["parameter"].sub_(t["velocity"])
        return []

    def add(net):
        inputs_in_order = ["gradient", "velocity", "rate", "parameter"]
        net.MomentumSGDUpdate(
            inputs_in_order, ["gradient_step", "velocity", "parameter"], momentum=0.9
        )
        return []

    return OperatorCase("MomentumSGDUpdate", f"{size:,}", inputs, add, formula, ())
