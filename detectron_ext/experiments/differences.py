"""One figure of what the variants of several sweeps gain, from the JSON files of their reports."""

from __future__ import annotations

import json
import math
from typing import NamedTuple, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detectron_ext.errors import UserError
from detectron_ext.evaluation.comparison import LABELS
from detectron_ext.evaluation.plots import COLOURS, finish, new_figure
from detectron_ext.input_files import read_text
from detectron_ext.limits import MAX_JSON_BYTES

_ROW_INCHES = 0.2
_PANEL_INCHES = 0.6


class Difference(NamedTuple):
    """How much a variant differs from the baseline of its sweep.

    Attributes:
        place: data set and size, such as ``bccd_256``.
        sweep: name of the sweep.
        variant: name of the variant.
        value: difference of the means.
        interval: 95 % interval of the difference over trainings; None if there are too few.
        p: the p value after Holm's correction for the variants of the sweep; None without one.
        pairs: number of trainings of the variant.
    """

    place: str
    sweep: str
    variant: str
    value: float
    interval: tuple[float, float] | None
    p: float | None
    pairs: int


def read_differences(paths: Sequence[str], metric: str = "AP") -> list[Difference]:
    """Return the differences of a metric in the JSON files of sweeps' reports.

    A comparison that several files hold, with the same trainings, is returned once.

    Args:
        paths: files that ``tools/sweep.py --report`` has written.
        metric: a key of `detectron_ext.evaluation.comparison.LABELS`.

    Raises:
        UserError: a file cannot be read or is no such report, or no file has the metric.
    """
    found: dict[tuple, Difference] = {}
    for path in paths:
        try:
            report = json.loads(read_text(path, MAX_JSON_BYTES))
            for trainings, difference in _differences_of(report, metric):
                found.setdefault(trainings, difference)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
            raise UserError(
                f"{path} is not the JSON file of a sweep's report (tools/sweep.py --report)"
            ) from None
    if not found:
        raise UserError(f"{', '.join(paths)}: no variant is compared by {metric}")
    return list(found.values())


def _differences_of(report: dict, metric: str) -> list[tuple[tuple, Difference]]:
    found = []
    for place, content in report["places"].items():
        for comparison in content["comparisons"]:
            for candidate in comparison["candidates"]:
                rows = [row for row in candidate["rows"] if row["metric"] == metric]
                for row in rows:
                    trainings = (*comparison["baseline"]["runs"], *candidate["runs"])
                    found.append(
                        ((place, *trainings), _difference(place, report["sweep"], candidate, row))
                    )
    return found


def _difference(place: str, sweep: str, candidate: dict, row: dict) -> Difference:
    over = row.get("over_trainings") or {}
    low_high = over.get("interval")
    interval = None if low_high is None else (float(low_high[0]), float(low_high[1]))
    value = float(over.get("difference", row["difference"]))
    numbers = [value, *(interval or ())]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a difference is not finite")
    counts = over.get("counts") or [1, len(candidate["runs"])]
    p = over.get("p_holm")
    return Difference(
        str(place), str(sweep), str(candidate["name"]), value, interval,
        None if p is None else float(p), int(counts[1]),
    )  # fmt: skip


def differences_figure(differences: Sequence[Difference], metric: str = "AP") -> Figure:
    """Plot each difference with its interval, one panel for each data set and size.

    A filled mark is a difference whose p value after Holm's correction is below .05.

    Args:
        differences: what :func:`read_differences` returns.
        metric: the metric that they are differences of, for the label.
    """
    places: dict[str, list[Difference]] = {}
    for difference in differences:
        places.setdefault(difference.place, []).append(difference)
    rows = [len(shown) for shown in places.values()]
    figure = new_figure(9.0, len(rows) * _PANEL_INCHES + sum(rows) * _ROW_INCHES)
    grid = figure.add_gridspec(len(rows), 1, height_ratios=[r * _ROW_INCHES + 0.1 for r in rows])
    sweeps = list(dict.fromkeys(difference.sweep for difference in differences))
    first = None  # all panels have its scale
    for number, (place, shown) in enumerate(places.items()):
        axes = figure.add_subplot(grid[number], sharex=first)
        first = first or axes
        _plot_place(axes, place, shown, sweeps)
    axes.set_xlabel(
        f"difference of {LABELS.get(metric, metric)} from the baseline, with its 95 % interval; "
        "filled: significant"
    )
    return figure


def _plot_place(axes: Axes, place: str, shown: Sequence[Difference], sweeps: Sequence[str]) -> None:
    for row, difference in enumerate(shown):
        colour = COLOURS[sweeps.index(difference.sweep) % len(COLOURS)]
        significant = difference.p is not None and difference.p < 0.05
        if difference.interval:
            axes.plot(difference.interval, (row, row), color=colour, linewidth=1.6)
        axes.plot(
            difference.value, row, marker="o", markersize=6, color=colour,
            markerfacecolor=colour if significant else "white", linestyle="none",
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)))
    axes.set_yticklabels([f"{d.sweep}: {d.variant} ({d.pairs})" for d in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    finish(axes, place, "", "")
