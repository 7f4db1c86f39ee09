"""Files that a configuration names, by URL perhaps, but that must be here to be read."""

from __future__ import annotations

import os
import re

from detectron_ext.errors import UserError


def is_url(path: str) -> bool:
    """Whether a setting is a URL, as in Detectron's configurations."""
    return re.match(r"[a-z]+://", path) is not None


def local_file(path: str, kind: str, advice: str, error_class: type[UserError]) -> str:
    """Check that a setting names a file on this machine; returns its path.

    Args:
        path: the setting.
        kind: what the file holds, for the message: "weights" or "proposals".
        advice: what to do with the file once it is here.
        error_class: what is raised.

    Raises:
        error_class: for a URL (nothing is downloaded) or a missing file.
    """
    if is_url(path):
        name = path.rsplit("/", 1)[-1]
        raise error_class(
            f"{kind} {path} are a URL and nothing is downloaded: fetch {name} yourself and {advice}"
        )
    if not os.path.isfile(path):
        raise error_class(f"{kind} file not found: {path or '(no name given)'}")
    return path
