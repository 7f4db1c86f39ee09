"""All cases: small ones with odd shapes for the numbers, big ones for the threads."""

from __future__ import annotations

import anchor_cases
import box_loss_cases
import class_loss_cases
import layer_cases
import map_cases
import numpy as np
from case_types import BigCase, Case


def make_cases(seed: int) -> list[Case]:
    """Return cases of every operator: all arguments, odd sizes, and the empty and 1x1 ones.

    Differences stay clear of the kinks of their losses, and no two elements of a window are nearly
    equal. So float32, float64 and small steps find the same side of a kink and the same maximum.
    `make_kink_cases` returns cases at the kinks.
    """
    random = np.random.RandomState(seed)
    families = (box_loss_cases, class_loss_cases, map_cases, anchor_cases)
    cases = [case for family in families for case in family.small_cases(random)]
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


_BUILDERS = {
    **anchor_cases.BIG_CASES,
    **box_loss_cases.BIG_CASES,
    **class_loss_cases.BIG_CASES,
    **map_cases.BIG_CASES,
    **layer_cases.BIG_CASES,
}
LABELS = sorted(_BUILDERS)


def big_case(label: str, seed: int) -> BigCase:
    """Return the case of one of LABELS."""
    return _BUILDERS[label](np.random.RandomState(seed))
