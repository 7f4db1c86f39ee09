"""Our graph functions on upstream's model helper: what they need of it, and what they return."""

from __future__ import annotations

from detectron_ext.modeling.box_losses import DEFAULT, box_loss_name
from detectron_ext.modeling.layers import DetectionLayers
from detectron_ext.upstream import cpu_mode
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import Patch, constant


def patches() -> list:
    """Patches of upstream's DetectionModelHelper: every method of `DetectionLayers`, and these."""
    methods = {
        name: value
        for name, value in vars(DetectionLayers).items()
        if callable(value) and not name.startswith("__")
    }
    methods.update(
        config=property(lambda model: upstream_cfg()),
        num_gpus=property(lambda model: 0 if cpu_mode.is_on() else upstream_cfg().NUM_GPUS),
        loss_scale=property(lambda model: model.GetLossScale()),
        add_sampler=_add_sampler,
    )
    module = "detectron.modeling.detector"
    return [
        Patch(module, f"DetectionModelHelper.{name}", None, constant(value))
        for name, value in methods.items()
    ]


def _add_sampler(model, name):
    """Nothing to record: upstream's training log has no place for a sampler's counts."""


def has_upstreams_losses() -> bool:
    """Return whether LIBRA leaves the box loss and the losses' weights as upstream has them."""
    cfg = upstream_cfg()
    weights = cfg.LIBRA.LOSS_WEIGHTS
    return box_loss_name(cfg) == DEFAULT and weights.CLS == weights.BBOX == 1


def loss_gradients(model, losses: list) -> dict:
    """Add a gradient of 1 for each loss blob, as upstream's heads return their losses.

    Returns:
        Names of losses to names of their gradients.
    """
    from detectron.utils import blob as upstream_blobs

    return upstream_blobs.get_loss_gradients(model, losses)
