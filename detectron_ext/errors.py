"""Errors that are a person's to mend, not a bug of ours.

Each carries one line: the thing at fault and what to do. The tools print that line and exit with
status 2; anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """A mistake in something the user gave: a file, a key, a path, a weight."""


class ConfigError(UserError):
    """A configuration that cannot be read, or holds an unknown key or a wrong type."""


class DatasetError(UserError):
    """A data set that is missing, unreadable or inconsistent."""


class WeightsError(UserError):
    """A weights file that cannot be read or does not fit the model."""
