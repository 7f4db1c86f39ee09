"""The demo's report: models side by side as one HTML page with PNGs next to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detectron_ext.errors import UserError
from detectron_ext.evaluation.coco_eval import METRICS
from detectron_ext.evaluation.drawing import contact_sheet, draw_boxes, enlarge, titled

# Paul Tol's bright scheme: distinct for the colour-blind and in print.
_CURVE_COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee")
_MIN_SCORE = 0.5
_PANEL_SIDE = 400

# Panels of the curves: title, y axis, and which json_stats keys are summed for it.
_CURVES = (
    ("Total loss", "loss", re.compile(r"^loss$")),
    ("Classification", "loss", re.compile(r"^fl_|^loss_(rpn_)?cls")),
    ("Box regression", "loss", re.compile(r"loss_(rpn_)?bbox")),
    ("Learning rate", "learning rate", re.compile(r"^lr$")),
)


@dataclass(frozen=True)
class Picture:
    """A test image with what is there and what a model found.

    name: what the image is called; runs that show the same image use the same name.
    image: (H, W, 3) uint8, BGR. truth: COCO annotations. detections: COCO results.
    """

    name: str
    image: np.ndarray
    truth: Sequence[Mapping]
    detections: Sequence[Mapping]


@dataclass(frozen=True)
class RunSummary:
    """One trained model.

    name: shown in every table and legend; unique. config: settings worth showing.
    results: as coco_eval.evaluate_detections returns. stats: json_stats entries (dicts with
    iter, loss, lr and single losses, as numbers or text). train_seconds: wall time of training.
    pictures: test images. class_names: category id -> name, for the pictures' labels.
    """

    name: str
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    stats: Sequence[Mapping[str, Any]]
    train_seconds: float
    pictures: Sequence[Picture] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)


def write_demo_report(out_dir: str, runs: Sequence[RunSummary]) -> str:
    """Write report.html and its PNGs into out_dir, made if needed; return the page's path.

    Raises ValueError for no runs or two of one name, UserError when out_dir cannot be written.
    """
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a report needs runs of different names, got {names}")
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = _write_pictures(folder, runs)
        curves = "curves.png" if _write_curves(folder / "curves.png", runs) else None
        page = _page_template().render(
            names=names,
            metrics=_metric_rows(runs),
            class_tables=_class_tables(runs),
            config_rows=_config_rows(runs),
            curves=curves,
            pictures=pictures,
            min_score=_MIN_SCORE,
            num_images=runs[0].results.get("num_images"),
        )
        path = folder / "report.html"
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{out_dir}: cannot be written ({reason}): choose another") from error
    return str(path)


def smooth(values: Sequence[float], reach: int) -> np.ndarray:
    """Mean over each value and its neighbours up to `reach` entries away on both sides.

    Centred, so that a falling curve is not drawn late; at the ends one side is cut off.
    Entries that are not finite are skipped. Returns float64 of the same length, NaN where no
    neighbour is finite.
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


def _page_template() -> jinja2.Template:
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(folder)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _metric_rows(runs: Sequence[RunSummary]) -> list[dict]:
    rows = [_score_row(key, [run.results.get(key) for run in runs]) for key in METRICS]
    return [*rows, _time_row(runs)]


def _score_row(label: str, scores: Sequence[float | None]) -> dict:
    """A row of scores; the best is marked where the models differ in what is shown."""
    known = [score for score in scores if score is not None and np.isfinite(score)]
    texts = [f"{s:.3f}" if s is not None and np.isfinite(s) else "–" for s in scores]
    best = f"{max(known):.3f}" if known else None
    marked = len(set(texts)) > 1
    cells = [{"text": text, "best": marked and text == best} for text in texts]
    return {"label": label, "cells": cells}


def _time_row(runs: Sequence[RunSummary]) -> dict:
    cells = []
    for run in runs:
        minutes, seconds = divmod(int(round(run.train_seconds)), 60)
        cells.append({"text": f"{minutes} min {seconds:02d} s", "best": False})
    return {"label": "Training time", "cells": cells}


def _class_tables(runs: Sequence[RunSummary]) -> list[dict]:
    tables = []
    for title, key in (("AP", "per_class"), ("AP50", "per_class_AP50")):
        scores = [run.results.get(key) or {} for run in runs]
        names = list(dict.fromkeys(name for each in scores for name in each))
        rows = [_score_row(name, [each.get(name) for each in scores]) for name in names]
        if rows:
            tables.append({"title": title, "rows": rows})
    return tables


def _config_rows(runs: Sequence[RunSummary]) -> list[dict]:
    """Every setting of any run, those in which the runs differ first."""
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    rows = []
    for key in keys:
        cells = [str(run.config[key]) if key in run.config else "–" for run in runs]
        rows.append({"label": key, "cells": cells, "differs": len(set(cells)) > 1})
    return sorted(rows, key=lambda row: not row["differs"])


def _write_pictures(folder: Path, runs: Sequence[RunSummary]) -> list[dict]:
    """One PNG an image: ground truth, then each run's detections; their names and files."""
    shown = {}
    for run in runs:
        for picture in run.pictures:
            if picture.name not in shown:
                panel = _panel(picture, picture.truth, run.class_names, 0.0, "ground truth")
                shown[picture.name] = [panel]
            found = picture.detections
            panel = _panel(picture, found, run.class_names, _MIN_SCORE, run.name)
            shown[picture.name].append(panel)
    written = []
    for number, (name, panels) in enumerate(shown.items(), start=1):
        file_name = f"picture_{number:02d}.png"
        _write_image(folder / file_name, contact_sheet(panels, columns=len(panels)))
        written.append({"name": name, "file": file_name})
    return written


def _panel(
    picture: Picture,
    boxes: Sequence[Mapping],
    class_names: Mapping[int, str],
    min_score: float,
    title: str,
) -> np.ndarray:
    image, scaled = enlarge(picture.image, boxes, _PANEL_SIDE)
    return titled(draw_boxes(image, scaled, class_names, min_score), title)


def _write_image(path: Path, image: np.ndarray) -> None:
    done, data = cv2.imencode(".png", image)
    if not done:
        raise RuntimeError(f"OpenCV could not encode {path.name}")
    path.write_bytes(data.tobytes())


def _series(run: RunSummary, pattern: re.Pattern) -> tuple[list[float], list[float]]:
    """Iterations and, at each, the sum of the entries whose key matches."""
    iterations, values = [], []
    for entry in run.stats:
        matching = [float(value) for key, value in entry.items() if pattern.search(key)]
        if matching and "iter" in entry:
            iterations.append(float(entry["iter"]))
            values.append(sum(matching))
    return iterations, values


def _write_curves(path: Path, runs: Sequence[RunSummary]) -> bool:
    """Plot the losses and the learning rate of all runs; False when there is nothing to plot."""
    panels = []
    for title, unit, pattern in _CURVES:
        series = [_series(run, pattern) for run in runs]
        if any(len(iterations) for iterations, _ in series):
            panels.append((title, unit, series))
    if not panels:
        return False
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    # A canvas of its own: pyplot would set a backend for the whole process.
    figure = Figure(figsize=(5.5 * columns, 3.4 * rows), constrained_layout=True)
    FigureCanvasAgg(figure)
    for number, (title, unit, series) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        _plot_panel(axes, title, unit, series, [run.name for run in runs])
    figure.savefig(str(path), dpi=130)
    return True


def _plot_panel(axes, title: str, unit: str, series: Sequence, names: Sequence[str]) -> None:
    for number, ((iterations, values), name) in enumerate(zip(series, names)):
        colour = _CURVE_COLOURS[number % len(_CURVE_COLOURS)]
        # Dashes keep apart curves that lie on each other, as equal learning rates do.
        dashes = "-" if number == 0 else "--"
        if unit == "loss":
            axes.plot(iterations, values, color=colour, alpha=0.2, linewidth=0.8)
            values = smooth(values, reach=max(1, len(values) // 30))
            dashes = "-"
        axes.plot(iterations, values, dashes, color=colour, linewidth=1.8, label=name)
    finite = [v for _, values in series for v in values if np.isfinite(v)]
    if unit == "loss" and finite:
        # The first iterations would squeeze the rest; cut them off.
        axes.set_ylim(0, max(1.15 * float(np.percentile(finite, 98)), 1e-6))
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("iteration")
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
