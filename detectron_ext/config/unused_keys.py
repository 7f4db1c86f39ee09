"""LIBRA's keys that the configured model does not use, for a warning before it trains."""

from __future__ import annotations

import logging
from typing import Any

from detectron_ext.config.defaults.libra import LIBRA
from detectron_ext.config.model_kind import is_retinanet, reads_proposals

_LOG = logging.getLogger(__name__)

# Of SAMPLER, what concerns the RPN alone; the other keys do too where RPN is True.
_OF_RPN = ("RPN", "RPN_NEG_POS_UB")


def warn_of_unused_keys(config: Any) -> None:
    """Log, in one line, which of LIBRA's keys were changed and do not matter to the model.

    Keys of a part that is switched off (BFP.REFINE_LEVEL without BFP.ON) are not among them: they
    stay where one tries the model without that part.

    Args:
        config: a merged configuration, ours or upstream's.
    """
    model, unused = _unused(config)
    changed = [
        f"LIBRA.{section}.{key}"
        for section, keys in unused.items()
        for key in keys
        if config.LIBRA[section][key] != LIBRA[section][key]
    ]
    if changed:
        _LOG.warning("without effect on %s: %s", model, ", ".join(changed))


def _unused(config: Any) -> tuple[str, dict]:
    """What the model is called, and {section of LIBRA: the keys in it that it does not use}."""
    if is_retinanet(config):
        return "RetinaNet", {"SAMPLER": LIBRA["SAMPLER"]}
    unused: dict = {section: LIBRA[section] for section in ("RETINANET_SAMPLER", "RETINANET_HEAD")}
    if reads_proposals(config):
        return "Fast R-CNN", {**unused, "SAMPLER": _OF_RPN}
    if not config.MODEL.RPN_ONLY:
        return "Faster R-CNN", unused
    unused.update({section: LIBRA[section] for section in ("BALANCED_L1", "LOSS_WEIGHTS")})
    if not config.LIBRA.SAMPLER.RPN:
        unused["SAMPLER"] = [key for key in LIBRA["SAMPLER"] if key not in _OF_RPN]
    return "an RPN alone", unused
