"""Keys that were changed and that the configured model does not use, for warnings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Iterable

from detectron_ext.config.dotted import value_at
from detectron_ext.config.keys import KEYS
from detectron_ext.config.keys.key import UPSTREAM_ONLY, Key, When
from detectron_ext.config.model_kind import ModelKind, model_kind

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

_LOG = logging.getLogger(__name__)
# (key, detector that does not use it) -> key with the same meaning for this detector.
_INSTEAD = {
    ("TEST.SCORE_THRESH", ModelKind.RETINANET): "RETINANET.INFERENCE_TH",
    ("RETINANET.INFERENCE_TH", ModelKind.FASTER_RCNN): "TEST.SCORE_THRESH",
    ("RETINANET.INFERENCE_TH", ModelKind.FAST_RCNN): "TEST.SCORE_THRESH",
}


def warn_of_unused_keys(config: Settings) -> None:
    """Log, in one line, which keys of LIBRA were changed and have no effect on the model.

    Keys of a part that is switched off are not among them (for example BFP.REFINE_LEVEL while
    BFP.ON is False): they stay as they are when somebody tries the model without that part.

    Args:
        config: a merged configuration, ours or upstream's.
    """
    _warn(config, [name for name in KEYS if name.startswith("LIBRA.")])


def warn_of_unused_test_keys(config: Settings) -> None:
    """Log, in one line, which keys of detections were changed and have no effect on the model.

    They are the keys of TEST and RETINANET that a test uses. Those of the RPN's proposals are left
    out: Detectron's configurations of RetinaNet set them, too.

    Args:
        config: a merged configuration, ours or upstream's.
    """
    _warn(config, [name for name in KEYS if _decides_detections(name)])


def _decides_detections(name: str) -> bool:
    key = KEYS[name]
    if key.used_by == UPSTREAM_ONLY or name.startswith("TEST.RPN_"):
        return False
    return name.startswith("TEST.") or (name.startswith("RETINANET.") and not key.affects_weights)


def _warn(config: Settings, names: Iterable[str]) -> None:
    kind = model_kind(config)
    unused = [
        name
        for name in names
        if value_at(config, name) != KEYS[name].default and not _is_used(KEYS[name], config)
    ]
    if unused:
        shown = (
            f"{name} (set {_INSTEAD[name, kind]})" if (name, kind) in _INSTEAD else name
            for name in unused
        )
        _LOG.warning("without effect on %s: %s", kind.value, ", ".join(shown))


def _is_used(key: Key, config: Settings) -> bool:
    kind = model_kind(config)
    return any(
        user.kind is kind and value_at(config, user.switch)
        if isinstance(user, When)
        else user is kind
        for user in key.used_by
    )
