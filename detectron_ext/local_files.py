"""Files named in a configuration. A URL is refused, because nothing is downloaded."""

from __future__ import annotations

import os
import re

from detectron_ext.errors import UserError


def is_url(path: str) -> bool:
    """Return whether a setting is a URL, as in some of Detectron's configurations."""
    return re.match(r"[a-z]+://", path) is not None


def local_file(path: str, kind: str, advice: str, error_class: type[UserError]) -> str:
    """Check that a setting names a file on this machine, and return its path.

    Args:
        path: the value of the setting.
        kind: what the file holds, for the message: "weights" or "proposals".
        advice: what the user should do with a file that was downloaded by hand, for the message.
        error_class: class of the error to raise.

    Raises:
        error_class: the setting is a URL, or the file does not exist.
    """
    if is_url(path):
        name = path.rsplit("/", 1)[-1]
        raise error_class(
            f"{kind} {path} are a URL and nothing is downloaded: fetch {name} yourself and {advice}"
        )
    path = os.path.expandvars(os.path.expanduser(path))  # as config.paths does for keys
    if not os.path.isfile(path):
        raise error_class(f"{kind} file not found: {path or '(no name given)'}")
    return path
