"""Cases of the box losses."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Sequence

import numpy as np
from case_types import SHAPE, BigCase, Case
from native_runner import normal

BALANCED = [
    {},
    {"beta": 0.11, "scale": 0.5},
    {"beta": 0.11, "formula": "mmdet"},
    {"alpha": 0.3, "gamma": 0.9, "beta": 2.5, "formula": "continuous"},
    {"alpha": 0.75, "gamma": 2.0, "beta": 3.0, "formula": "mmdet"},
]
SMOOTH = [{}, {"beta": 0.11, "scale": 2.0}]


def _off_kinks(inside: np.ndarray, difference: np.ndarray, beta: float = 1.0, **_) -> np.ndarray:
    """Return which products of two factors are neither near 0 nor near beta, where slopes jump."""
    x = np.abs(np.float64(inside) * difference)
    return (x > 1e-4) & (np.abs(x - beta) > 1e-4)


def _box_losses(dense: bool) -> list[tuple[str, dict[str, Any]]]:
    prefix = "" if dense else "Select"
    return [
        *((f"{prefix}SmoothL1Loss", arguments) for arguments in SMOOTH),
        *((f"{prefix}BalancedL1Loss", arguments) for arguments in BALANCED),
    ]


def _dense_box_cases(random: np.random.RandomState) -> Iterator[tuple]:
    # No case has only one number. The gradient of formula mmdet crosses zero. If it were the only
    # one and near zero, rounding could be larger than the tolerance.
    for shape in [(37, 4), (3, 8, 2, 5), (1, 4), (5,), (0, 4), (3, 0)]:
        y_hat, y = normal(random, *shape), normal(random, *shape)
        inside, outside = random.uniform(0, 2, (2, *shape)).astype(np.float32)
        for name, arguments in _box_losses(dense=True):
            clear = _off_kinks(inside, y_hat - y, **arguments)
            yield name, [y_hat, y, inside, outside * clear], arguments


def select_inputs(
    random: np.random.RandomState, rows: int, shape: Sequence[int], fg_num: float
) -> list[np.ndarray]:
    """Return y_hat, y, locations and fg_num with `rows` distinct locations in a map of `shape`."""
    n, channels, height, width = shape
    anchors = channels // 4
    places = random.choice(n * anchors * height * width, rows, replace=False)
    locations = np.stack(np.unravel_index(places, (n, anchors, height, width)), axis=1)
    locations[:, 1] *= 4
    return [
        normal(random, *shape),
        normal(random, rows, 4),
        locations.astype(np.float32),
        np.array([fg_num], np.float32),
    ]


def _select_box_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for rows, shape, fg_num in [
        (20, (2, 12, 7, 5), 31.0),
        (3, (1, 36, 1, 1), 0.0),
        (0, (2, 8, 3, 4), 5.0),
        (0, (1, 4, 1, 1), 0.0),
    ]:
        y_hat, y, locations, count = select_inputs(random, rows, shape, fg_num)
        n, c, height, width = locations.astype(np.int64).T[:, :, np.newaxis]
        for name, arguments in _box_losses(dense=False):
            difference = y_hat[n, c + np.arange(4), height, width] - y
            clear = _off_kinks(np.ones_like(y), difference, **arguments)
            inputs = [y_hat, np.where(clear, y, y + 0.01), locations, count]
            yield name, inputs, arguments
            weights = random.uniform(0, 2, rows).astype(np.float32)
            yield f"Weighted{name}", [*inputs, weights], arguments


def make_kink_cases() -> list[Case]:
    """Return cases of the box losses at differences of 0 and beta, and the floats beside beta."""
    cases = []
    for beta in (1.0, float(np.float32(0.11)), 2.5):
        b = np.float32(beta)
        beside = [np.nextafter(b, np.float32(0)), np.nextafter(b, np.float32(np.inf))]
        x = np.array([0.0, -0.0, b, -b, *beside], np.float32)
        zeros, ones = np.zeros((6, 4), np.float32), np.ones((6, 4), np.float32)
        rows = np.array([[0, 0, 0, i] for i in range(6)], np.float32)
        y_map = np.broadcast_to(x, (1, 4, 1, 6)).copy()
        dense = [np.repeat(x[:, np.newaxis], 4, axis=1), zeros, ones, ones]
        for select, inputs in (("", dense), ("Select", [y_map, zeros, rows, ones[0, :1]])):
            cases.append((f"{select}SmoothL1Loss", inputs, {"beta": beta}))
            for formula in ("continuous", "mmdet"):
                arguments = {"beta": beta, "formula": formula}
                cases.append((f"{select}BalancedL1Loss", inputs, arguments))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


def small_cases(random: np.random.RandomState) -> Iterator[tuple]:
    """Yield (operator, inputs, arguments) of small cases."""
    yield from _dense_box_cases(random)
    yield from _select_box_cases(random)


def _dense(operator: str) -> Callable[..., BigCase]:
    def build(random):
        y_hat, y, inside, outside = (normal(random, *SHAPE) for _ in range(4))
        return BigCase(operator, [3 * y_hat, y, np.abs(inside), np.abs(outside)], {"beta": 0.5})

    return build


def _select(operator: str) -> Callable[..., BigCase]:
    return lambda random: BigCase(
        operator, select_inputs(random, 900, SHAPE, 9.0), {"beta": 0.11, "scale": 2.0}
    )


def _weighted_select(operator: str) -> Callable[..., BigCase]:
    def build(random):
        inputs = select_inputs(random, 900, SHAPE, 9.0)
        return BigCase(operator, [*inputs, np.abs(normal(random, 900))], {"beta": 0.11})

    return build


BIG_CASES: dict[str, Callable[[np.random.RandomState], BigCase]] = {
    "BalancedL1Loss": _dense("BalancedL1Loss"),
    "SelectBalancedL1Loss": _select("SelectBalancedL1Loss"),
    "SelectSmoothL1Loss": _select("SelectSmoothL1Loss"),
    "SmoothL1Loss": _dense("SmoothL1Loss"),
    "WeightedSelectBalancedL1Loss": _weighted_select("WeightedSelectBalancedL1Loss"),
    "WeightedSelectSmoothL1Loss": _weighted_select("WeightedSelectSmoothL1Loss"),
}
