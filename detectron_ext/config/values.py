"""Values given for a key: decoding text and fitting the result to the type of the default.

The rules are Detectron's: text that is a Python literal is read as one, a list may stand for a
tuple, a tuple for a list, and any scalar for a string. One rule is added: an integer may stand for
a float. A bool never stands for a number, nor a number for a bool.
"""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np

from detectron_ext.errors import ConfigError, shown

_LONGEST_HINTED = 60
_MOST_BITS = 63  # and a sign
_TYPE_NAMES = {
    bool: "a bool (True or False)",
    int: "an int",
    float: "a float",
    str: "a string",
    list: "a list",
    tuple: "a tuple",
}


def decode(value: Any) -> Any:
    """Return the value of the Python literal in a string, or the value itself if it is none."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def coerce(value: Any, default: Any, label: str) -> Any:
    """Convert a given value to the type of the key's default.

    Args:
        value: what the user gave: text (not decoded yet) or a Python value.
        default: the key's present value, of type bool, int, float, str, list, tuple or
            numpy array.
        label: the key and where it was given, for messages.

    Returns:
        The value, of the type of ``default``; an array has its shape and dtype, too.

    Raises:
        ConfigError: the value cannot stand for one of the default's type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(default, str):
        return _as_text(value, label)
    decoded = decode(value)
    _check_integers(decoded, label)
    if isinstance(default, np.ndarray):
        return _as_array(decoded, default, label)
    if isinstance(decoded, np.ndarray):
        decoded = decoded.tolist()
    kind = type(default)
    if kind in (list, tuple) and isinstance(decoded, (list, tuple)):
        return _as_sequence(decoded, kind)
    if kind is float and type(decoded) in (int, float):
        return _as_float(decoded, label)
    if type(decoded) is not kind:
        raise _mismatch(decoded, _TYPE_NAMES[kind], label, kind)
    return decoded


def _check_integers(value: Any, label: str) -> None:
    """Refuse integers that do not fit 64 bits, also those in sequences."""
    if isinstance(value, (list, tuple)):
        for element in value:
            _check_integers(element, label)
    elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ConfigError(f"{label} expects numbers of at most 64 bits, given {shown(value)}")


def _as_text(value: Any, label: str) -> str:
    if value is None:  # a YAML key without a value
        return ""
    if isinstance(value, dict):
        raise _mismatch(value, _TYPE_NAMES[str], label)
    # Only quoted text is unwrapped: a folder named 1e5 must not turn into 100000.0.
    decoded = decode(value)
    return decoded if isinstance(decoded, str) else str(value)


def _as_float(value: Any, label: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"{label} expects a finite number, given {shown(value)}")
    return number


def _as_sequence(value: Any, kind: type) -> Any:
    """Convert a sequence, and those inside it, to one kind: YAML has no tuples, only lists."""
    return kind(_as_sequence(v, kind) if isinstance(v, (list, tuple)) else v for v in value)


def _as_array(value: Any, default: np.ndarray, label: str) -> np.ndarray:
    expected = f"{default.size} numbers"
    try:
        array = np.array(value, dtype=default.dtype)
    except (TypeError, ValueError, OverflowError):
        raise _mismatch(value, expected, label) from None
    if array.size != default.size or not np.isfinite(array).all():
        raise _mismatch(value, expected, label)
    return array.reshape(default.shape)


def _mismatch(value: Any, expected: str, label: str, kind: type = str) -> ConfigError:
    hint = ""
    one_element = isinstance(value, (int, float)) or (
        isinstance(value, str) and len(value) < _LONGEST_HINTED and value[:1] not in ("(", "[")
    )
    if kind in (list, tuple) and one_element:
        hint = f"; write {kind([value])!r} for one element"
    return ConfigError(f"{label} expects {expected}, given {shown(value)}{hint}")
