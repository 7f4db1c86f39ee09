"""Errors that the user can correct.

The message of each is one line, which names the thing at fault and what to do. The tools print that
line and exit with status 2. Any other exception is a fault of this project, and its traceback is
printed.
"""

from __future__ import annotations

import difflib
from typing import Any, Iterable

_LONGEST_SHOWN = 60
_MOST_LISTED = 12
_NUM_SUCH_AS = 3


class UserError(Exception):
    """A mistake in something that the user gave, such as a file, a key or a path."""


class Interrupted(UserError):
    """The user stopped a run by Ctrl-C, and its state was saved. The exit status is 130."""


class ConfigError(UserError):
    """A configuration that cannot be read, or that has an unknown key or a wrong value."""


class DatasetError(UserError):
    """A data set that is missing, unreadable or inconsistent."""


class WeightsError(UserError):
    """A weights file that cannot be read or does not fit the model."""


def shown(value: Any) -> str:
    """Return a value as one short line for a message, with its type."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        text = "a very long number"
    except RecursionError:
        text = "something nested very deeply"
    if len(text) > _LONGEST_SHOWN:
        text = text[: _LONGEST_SHOWN - 3] + "..."
    return f"{text} ({type(value).__name__})"


def choice_error(key: str, choices: Iterable[Any], value: Any) -> ConfigError:
    """Return the error for a key whose value is none of its choices; it names the nearest one.

    If there are many choices, the message lists only those that are most like the value.
    """
    names = [str(choice) for choice in choices]
    listed = ", ".join(names)
    if len(names) > _MOST_LISTED:
        nearest = difflib.get_close_matches(str(value), names, n=_NUM_SUCH_AS, cutoff=0.0)
        listed = f"{len(names)} names such as {', '.join(nearest)}"
    message = f"{key} must be one of {listed}, given {shown(value)}"
    near = difflib.get_close_matches(str(value), names, n=1)
    return ConfigError(f"{message}; did you mean {near[0]}?" if near else message)
