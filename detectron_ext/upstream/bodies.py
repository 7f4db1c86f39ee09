"""Networks that upstream does not have, under the names by which its configurations find theirs."""

from __future__ import annotations

from detectron_ext.modeling.bodies import add_conv_body
from detectron_ext.modeling.resnet import RESNETS
from detectron_ext.upstream.patches import OPTIONAL, Patch
from detectron_ext.upstream.pyramid import to_upstream

_NAMES = ("add_fpn_{}_conv5_body", "add_fpn_{}_conv5_P2only_body")


def patches() -> list:
    """Patches that add ``FPN.add_fpn_<network>_conv5_body`` where upstream has no such network."""
    return [
        Patch("detectron.modeling.FPN", name.format(network), OPTIONAL, _unless_present)
        for network in RESNETS
        for name in _NAMES
    ]


def _unless_present(present):
    return present or _add_body


def _add_body(model):
    """Add the body that MODEL.CONV_BODY names; returns what upstream's bodies return."""
    blobs, dim, scales = to_upstream(add_conv_body(model))
    return (blobs, dim, scales) if len(blobs) > 1 else (blobs[0], dim, scales[0])
