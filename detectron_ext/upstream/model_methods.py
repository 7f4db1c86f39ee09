"""Adapts upstream's model helper to our graph functions, and their results to upstream."""

from __future__ import annotations

from typing import Any, Sequence

from detectron_ext.modeling.box_losses import DEFAULT, box_loss_name
from detectron_ext.modeling.layers import Blob, DetectionLayers
from detectron_ext.upstream import cpu_mode
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import Patch, constant


def patches() -> list[Patch]:
    """Return the patches that add the methods of `DetectionModel` to upstream's model helper."""
    methods = {
        name: value
        for name, value in vars(DetectionLayers).items()
        if callable(value) and not name.startswith("__")
    }
    methods.update(
        config=property(lambda model: upstream_cfg()),
        num_gpus=property(lambda model: 0 if cpu_mode.is_on() else upstream_cfg().NUM_GPUS),
        num_processes=1,
        loss_scale=property(lambda model: model.GetLossScale()),
        add_sampler=_add_sampler,
        add_state=_add_state,
        update_state=_update_state,
    )
    module = "detectron.modeling.detector"
    return [
        Patch(module, f"DetectionModelHelper.{name}", None, constant(value))
        for name, value in methods.items()
    ]


def _add_sampler(model: Any, name: str) -> None:
    """Do nothing, since upstream's training log does not contain what samplers drew."""


def _add_state(model: Any, name: str, size: int) -> Any:
    """Add a state as a parameter without a gradient, so that upstream's checkpoints hold it."""
    blob = model.param_init_net.ConstantFill([], name, shape=[size], value=0.0)
    model.params.append(blob)
    return blob


def _update_state(model: Any, name: str, value: str) -> None:
    """Update a state at once, since upstream skips no steps."""
    model.net.Copy(value, name)


def has_upstreams_losses() -> bool:
    """Return whether LIBRA keeps upstream's box loss and loss weights."""
    cfg = upstream_cfg()
    weights = cfg.LIBRA.LOSS_WEIGHTS
    return box_loss_name(cfg) == DEFAULT and weights.CLS == weights.BBOX == 1


def loss_gradients(model: Any, losses: Sequence[Blob]) -> dict:
    """Add a gradient of 1 for each loss blob.

    Returns:
        A dict of names of losses to names of their gradients, as upstream's heads return it.
    """
    from detectron.utils import blob as upstream_blobs

    return upstream_blobs.get_loss_gradients(model, losses)
