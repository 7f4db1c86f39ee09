"""Adds the balanced feature pyramid between upstream's conv body and its heads."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

from detectron_ext.modeling.balanced_pyramid import add_balanced_pyramid
from detectron_ext.modeling.devices import unscoped
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.layers import Blob
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import Patch

_BUILDER = "detectron.modeling.model_builder"
_GENERIC = (
    "model",
    "add_conv_body_func",
    "add_roi_box_head_func",
    "add_roi_mask_head_func",
    "add_roi_keypoint_head_func",
    "freeze_conv_body",
)


def patches() -> list[Patch]:
    """Return the patches of upstream's two functions that build detectors with a pyramid."""
    return [
        Patch(_BUILDER, "build_generic_detection_model", _GENERIC, _building_detector),
        Patch(
            _BUILDER,
            "build_generic_retinanet_model",
            ("model", "add_conv_body_func", "freeze_conv_body"),
            _building_retinanet,
        ),
    ]


def _building_detector(original: Callable) -> Callable:
    def build(model, add_conv_body_func, *heads, freeze_conv_body=False, **named_heads):
        if upstream_cfg().LIBRA.BFP.ON:
            add_conv_body_func = _with_balanced_pyramid(add_conv_body_func, freeze_conv_body)
            freeze_conv_body = False
        return original(
            model, add_conv_body_func, *heads, freeze_conv_body=freeze_conv_body, **named_heads
        )

    return build


def _building_retinanet(original: Callable) -> Callable:
    def build(model, add_conv_body_func, freeze_conv_body=False):
        if upstream_cfg().LIBRA.BFP.ON:
            # Upstream's RetinaNet ignores freeze_conv_body.
            add_conv_body_func = _with_balanced_pyramid(add_conv_body_func, False)
        return original(model, add_conv_body_func, freeze_conv_body)

    return build


def _with_balanced_pyramid(add_conv_body: Callable, is_frozen: bool) -> Callable:
    """Return a conv body that ends in the balanced pyramid.

    ``is_frozen`` stops the gradient before the balanced pyramid, which itself is always trained.
    """

    def add(model):
        blobs, dim, scales = add_conv_body(model)
        is_pyramid = isinstance(blobs, list)
        pyramid = to_pyramid(blobs, dim, scales) if is_pyramid else Pyramid((blobs,), (0,), dim)
        if is_frozen:
            for blob in pyramid.blobs:
                model.StopGradient(blob, blob)
        return to_upstream(add_balanced_pyramid(model, pyramid))

    return add


def to_pyramid(blobs: Sequence[Blob], dim: int, scales: Sequence[float]) -> Pyramid:
    """Convert the result of upstream's bodies.

    Args:
        blobs: the maps, coarsest level first.
        dim: number of their channels.
        scales: for each map its cells per pixel, 1 / stride.
    """
    return Pyramid(
        tuple(unscoped(blob) for blob in reversed(blobs)),
        tuple(round(-math.log2(scale)) for scale in reversed(scales)),
        dim,
    )


def to_upstream(pyramid: Pyramid) -> tuple[list[Any], int, list[float]]:
    """Return what upstream's heads take: maps (coarsest first), channels and cells per pixel."""
    from caffe2.python import core

    blobs = [core.ScopedBlobReference(blob) for blob in reversed(pyramid.blobs)]
    return blobs, pyramid.dim, [1.0 / 2**level for level in reversed(pyramid.levels)]
