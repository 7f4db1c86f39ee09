"""Keys of LIBRA that the configured model does not use, for a warning before it trains."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from detectron_ext.config.dotted import value_at
from detectron_ext.config.keys import KEYS
from detectron_ext.config.keys.key import Key, When
from detectron_ext.config.model_kind import model_kind

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

_LOG = logging.getLogger(__name__)


def warn_of_unused_keys(config: Settings) -> None:
    """Log, in one line, which keys of LIBRA were changed and have no effect on the model.

    Keys of a part that is switched off are not among them (for example BFP.REFINE_LEVEL while
    BFP.ON is False): they stay as they are when somebody tries the model without that part.

    Args:
        config: a merged configuration, ours or upstream's.
    """
    unused = [
        name
        for name, key in KEYS.items()
        if name.startswith("LIBRA.")
        and value_at(config, name) != key.default
        and not _is_used(key, config)
    ]
    if unused:
        _LOG.warning("without effect on %s: %s", model_kind(config).value, ", ".join(unused))


def _is_used(key: Key, config: Settings) -> bool:
    kind = model_kind(config)
    return any(
        user.kind is kind and value_at(config, user.switch)
        if isinstance(user, When)
        else user is kind
        for user in key.used_by
    )
