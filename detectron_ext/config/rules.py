"""Rules for the values of one key: choices, ranges and the elements of sequences.

A key's entry (`config.keys`) lists its rules. Rules that compare several keys are in
`config.validate`.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any, Callable

from detectron_ext.config.dotted import value_at
from detectron_ext.errors import ConfigError, choice_error, shown
from detectron_ext.registry import Registry


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Attributes:
        demand: completes the message "KEY ...", for example "must be above 0".
        words: the same for the table of docs/configuration.md, for example "above 0".
        holds: whether a value obeys the rule.
        element_type: the type of a sequence's elements, as it is written in Python.
    """

    demand: str
    words: str
    holds: Callable[[Any], bool]
    element_type: str = ""

    def check(self, name: str, value: Any, tree: dict) -> None:
        """Check a value.

        Args:
            name: the key's dotted name.
            value: its value, already of the type of the default.
            tree: the whole configuration, for rules that compare with another key.

        Raises:
            ConfigError: the value breaks the rule.
        """
        if not self.holds(value):
            raise ConfigError(f"{name} {self.demand}, given {shown(value)}")


def above(low: float) -> Rule:
    """The value is greater than ``low``."""
    return Rule(f"must be above {low}", f"above {low}", lambda value: value > low)


def at_least(low: float) -> Rule:
    """The value is ``low`` or greater."""
    return Rule(f"must be at least {low}", f"at least {low}", lambda value: value >= low)


def at_most(high: float) -> Rule:
    """The value is ``high`` or less."""
    return Rule(f"must be at most {high:g}", f"at most {high:g}", lambda value: value <= high)


def between(low: float, high: float) -> Rule:
    """The value lies between two limits, which are allowed themselves.

    Operators compute in single precision. The limits of their arguments are chosen so that neither
    the product of a loss's factors nor a coefficient of the balanced L1 loss can overflow.
    """
    return Rule(
        f"must lie between {low:g} and {high:g}",
        f"{low:g} to {high:g}",
        lambda value: low <= value <= high,
    )


def fraction() -> Rule:
    """The value lies between 0 and 1, both included.

    Do not use it for thresholds such as RPN_NMS_THRESH: upstream turns them off by a value outside
    this range.
    """
    return between(0, 1)


def below_one() -> Rule:
    """The value is a fraction that is less than 1."""
    demand = "must be at least 0 and below 1"
    return Rule(demand, "at least 0 and below 1", lambda value: 0 <= value < 1)


def inside_zero_and_one() -> Rule:
    """The value lies between 0 and 1, both excluded."""
    demand = "must lie between 0 and 1, both excluded"
    return Rule(demand, "between 0 and 1, both excluded", lambda value: 0 < value < 1)


def texts() -> Rule:
    """All elements of a sequence are strings."""
    return Rule(
        "must hold strings only",
        "strings",
        lambda values: all(isinstance(element, str) for element in values),
        element_type="str",
    )


def numbers() -> Rule:
    """All elements of a sequence are finite numbers."""
    return Rule(
        "must hold numbers only",
        "numbers",
        lambda values: all(map(_is_number, values)),
        element_type="float",
    )


def folder_name() -> Rule:
    """The text names a folder that a run makes in OUTPUT_DIR; empty text names none."""
    return Rule(
        "must be a name without '/', because a folder in OUTPUT_DIR has it",
        "a name without `/`",
        lambda value: not {"/", "\0"} & set(value) and value not in (".", ".."),
    )


def rows(length: int, contents: str) -> Rule:
    """All elements of a list are lists of one length.

    Args:
        length: how many elements each of the lists has.
        contents: what they are, for the message.
    """
    return Rule(
        f"must hold [{contents}] rows",
        f"rows [{contents}]",
        lambda values: all(isinstance(row, list) and len(row) == length for row in values),
        element_type="list[Any]",
    )


def ascending_pair() -> Rule:
    """The first of two numbers is not above the second."""
    return Rule(
        "must be (low, high)", "the first at most the second", lambda pair: pair[0] <= pair[1]
    )


def positives(fewest: int = 0, most: float = math.inf) -> Rule:
    """All elements of a sequence are numbers above 0; there are ``fewest`` to ``most`` of them."""
    count = f"{fewest}" if fewest == most else f"at least {fewest}"
    return _Positives(
        f"must hold {count} number{'s' if fewest > 1 else ''} above 0",
        "numbers above 0" if fewest != most else f"{count} numbers above 0",
        lambda values: fewest <= len(values) <= most,
        element_type="float",
    )


def each_at_most(high: float) -> Rule:
    """All elements of a sequence of numbers are ``high`` or less."""
    return Rule(
        f"must be at most {high:g} each",
        f"each at most {high:g}",
        lambda values: all(value <= high for value in values),
    )


class _Positives(Rule):
    def check(self, name: str, value: Any, tree: dict) -> None:
        if not all(_is_number(element) and element > 0 for element in value):
            raise ConfigError(f"{name} must hold numbers above 0 only, given {shown(value)}")
        super().check(name, value, tree)


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer larger than every float
        return False


def not_above(other: str) -> Rule:
    """The value is not greater than that of another key, given by its dotted name."""
    demand, words = f"must not be above {other}", f"at most {other}"
    return _NotAbove(demand, words, lambda value: True, other=other)


@dataclass(frozen=True)
class _NotAbove(Rule):
    other: str = ""

    def check(self, name: str, value: Any, tree: dict) -> None:
        limit = value_at(tree, self.other)
        if value > limit:
            raise ConfigError(f"{name} ({value}) must not be above {self.other} ({limit})")


@dataclass(frozen=True)
class Choice(Rule):
    """The value is one of a few; `one_of` makes such a rule.

    Attributes:
        choices: the allowed values.
    """

    choices: tuple = ()

    def check(self, name: str, value: Any, tree: dict) -> None:
        if not self.holds(value):
            raise choice_error(name, self.choices, value)


def one_of(*choices: Any) -> Choice:
    """The value is one of those given."""
    words = ", ".join(f"`{choice}`" for choice in choices)
    return Choice(f"must be one of {words}", words, lambda value: value in choices, choices=choices)


@dataclass(frozen=True)
class RegisteredName(Rule):
    """The value is a name in a registry; `registered_in` makes such a rule.

    The registry's module is imported only when the rule is checked.

    Attributes:
        place: "module:NAME" of the registry.
    """

    place: str = ""

    def check(self, name: str, value: Any, tree: dict) -> None:
        registered(self.place).choose(value)

    @property
    def choices(self) -> tuple:
        """The names that are registered now."""
        return tuple(registered(self.place))


def registered_in(place: str) -> RegisteredName:
    """The value is a name in the registry at ``place``, "module:NAME"."""
    words = f"a name in `{place.replace(':', '.')}`"
    return RegisteredName(
        f"must be {words}", words, lambda value: value in registered(place), place=place
    )


def registered(place: str) -> Registry:
    """Return the registry at ``place``, "module:NAME", after importing its module."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
