"""Figures without a display: the style that all figures share, and the training curves.

Curves differ in dashes as well as in colour, so that they can be read in black and white.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detectron_ext.output_files import replaced_file

# Paul Tol's bright scheme: colours that colour-blind people can distinguish, also in print.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee")
DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))

# Panels of the training curves: title, y axis, and the json_stats keys that are summed.
_CURVES = (
    ("Total loss", "loss", re.compile(r"^loss$")),
    ("Classification", "loss", re.compile(r"^fl_|^loss_(rpn_)?cls")),
    ("Box regression", "loss", re.compile(r"loss_(rpn_)?bbox")),
    ("Learning rate", "learning rate", re.compile(r"^lr$")),
)


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches with its own canvas.

    pyplot is not used, because it sets a backend for the whole process.
    """
    figure = Figure(figsize=(width, height), constrained_layout=True)
    FigureCanvasAgg(figure)
    return figure


def write_figure(path: str, figure: Figure) -> None:
    """Write a figure as its file's extension says; the file appears whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with replaced_file(path) as file:
        figure.savefig(file, format=os.path.splitext(path)[1][1:], dpi=130)


def style(number: int) -> dict:
    """Return colour and dashes of curve number 0, 1, ... in a figure; they repeat after six."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def finish(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Set title, labels and a light grid of axes, and remove the frame on the top and the right.

    Args:
        axes: matplotlib axes.
        title: title above the axes.
        x_label, y_label: labels of the axes, with units.
    """
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)


def smooth(values: Sequence[float], reach: int) -> np.ndarray:
    """Return the mean of each value and its neighbours up to `reach` entries away.

    The window is centred, so that a falling curve is not delayed; at the ends it is cut off.
    Entries that are not finite are skipped. The result is float64 of the same length, NaN where no
    entry of the window is finite.
    """
    array = np.asarray(values, np.float64)
    finite = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    here = np.arange(len(array))
    low, high = np.maximum(here - reach, 0), np.minimum(here + reach + 1, len(array))
    number = counts[high] - counts[low]
    mean = (sums[high] - sums[low]) / np.maximum(number, 1)
    return np.where(number > 0, mean, np.nan)


def training_curves(logs: Mapping[str, Sequence[Mapping]]) -> Figure | None:
    """Plot losses and the learning rate against the iteration; None if there is nothing to plot.

    Args:
        logs: name of a run to its json_stats entries (dicts with iter, loss, lr and single losses,
            as numbers or text).
    """
    panels = []
    for title, unit, pattern in _CURVES:
        series = [_series(entries, pattern) for entries in logs.values()]
        if any(len(iterations) for iterations, _ in series):
            panels.append((title, unit, series))
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(5.5 * columns, 3.4 * rows)
    for number, (title, unit, series) in enumerate(panels, start=1):
        _plot_panel(figure.add_subplot(rows, columns, number), title, unit, series, list(logs))
    return figure


def _series(entries: Sequence[Mapping], pattern: re.Pattern) -> tuple[list[float], list[float]]:
    """Return iterations and, for each, the sum of the values whose key matches."""
    iterations, values = [], []
    for entry in entries:
        matching = [float(value) for key, value in entry.items() if pattern.search(key)]
        if matching and "iter" in entry:
            iterations.append(float(entry["iter"]))
            values.append(sum(matching))
    return iterations, values


def _plot_panel(axes: Axes, title: str, unit: str, series: Sequence, names: Sequence[str]) -> None:
    for number, ((iterations, values), name) in enumerate(zip(series, names)):
        if unit == "loss":
            colour = style(number)["color"]
            axes.plot(iterations, values, color=colour, alpha=0.2, linewidth=0.8)
            values = smooth(values, reach=max(1, len(values) // 30))
        axes.plot(iterations, values, linewidth=1.8, label=name, **style(number))
    finite = [v for _, values in series for v in values if np.isfinite(v)]
    if unit == "loss" and finite:
        # The large losses of the first iterations are cut off, so that the others are readable.
        axes.set_ylim(0, max(1.15 * float(np.percentile(finite, 98)), 1e-6))
    else:
        axes.set_ylim(bottom=0)
    finish(axes, title, "iteration", unit)
    axes.legend(frameon=False, fontsize=9)
