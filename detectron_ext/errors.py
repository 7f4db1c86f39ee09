"""Errors that are a person's to mend, not a bug of ours.

Each carries one line: the thing at fault and what to do. The tools print that line and exit with
status 2; anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from typing import Any, Iterable

_LONGEST_SHOWN = 60


class UserError(Exception):
    """A mistake in something the user gave: a file, a key, a path, a weight."""


class ConfigError(UserError):
    """A configuration that cannot be read, or holds an unknown key or a wrong type."""


class DatasetError(UserError):
    """A data set that is missing, unreadable or inconsistent."""


class WeightsError(UserError):
    """A weights file that cannot be read or does not fit the model."""


def shown(value: Any) -> str:
    """Return a value as one short line for a message, with its type."""
    text = repr(value)
    if len(text) > _LONGEST_SHOWN:
        text = text[: _LONGEST_SHOWN - 3] + "..."
    return f"{text} ({type(value).__name__})"


def choice_error(key: str, choices: Iterable[Any], value: Any) -> ConfigError:
    """Return the error for a key whose value is none of its choices; it names the nearest one."""
    names = [str(choice) for choice in choices]
    message = f"{key} must be one of {', '.join(names)}, given {shown(value)}"
    near = difflib.get_close_matches(str(value), names, n=1)
    return ConfigError(f"{message}; did you mean {near[0]}?" if near else message)
