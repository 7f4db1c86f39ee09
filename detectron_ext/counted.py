"""Numbers in messages: "1 image is", "3 images are"."""

from __future__ import annotations


def by_number(count: int, one: str, many: str) -> str:
    """Return the form of a word that fits a number: ``one`` for 1, ``many`` for all others."""
    return one if count == 1 else many


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    Args:
        count: the number.
        one: the noun for 1, for example "image".
        many: the noun for all other numbers; by default an "s" is added to the other one.
    """
    return f"{count} {by_number(count, one, many or one + 's')}"
