"""The report of the demonstration: an HTML page that compares models, and its PNG files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectron_ext.evaluation.coco_eval import METRICS
from detectron_ext.evaluation.drawing import contact_sheet, draw_boxes, encoded, fit, titled
from detectron_ext.evaluation.page import page_template
from detectron_ext.evaluation.plots import training_curves, write_figure
from detectron_ext.output_files import write_bytes, write_text

_MIN_SCORE = 0.5
_PANEL_SIDE = 400


@dataclass(frozen=True)
class Picture:
    """A test image with its ground truth and the detections of a model.

    Attributes:
        name: name of the image; runs that show the same image use the same name.
        image: (H, W, 3) uint8, BGR.
        truth: COCO annotations.
        detections: COCO results.
    """

    name: str
    image: np.ndarray
    truth: Sequence[Mapping]
    detections: Sequence[Mapping]


@dataclass(frozen=True)
class RunSummary:
    """One trained model.

    Attributes:
        name: unique name for tables and legends.
        config: settings to show.
        results: results of `coco_eval.summarise`.
        stats: json_stats entries (dicts with iter, loss, lr and single losses, as numbers or text).
        train_seconds: wall time of training; None if unknown.
        pictures: test images.
        class_names: category id to name, for the labels in the pictures.
    """

    name: str
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    stats: Sequence[Mapping[str, Any]]
    train_seconds: float | None
    pictures: Sequence[Picture] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)


def write_demo_report(out_dir: str, runs: Sequence[RunSummary]) -> str:
    """Write report.html and its PNG files to a folder, and return the path of the page.

    Args:
        out_dir: the folder; it is made if needed.
        runs: the models, in the order of the columns.

    Raises:
        ValueError: there are no runs, or two have the same name.
        UserError: the folder cannot be written.
    """
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a report needs runs of different names, got {names}")
    pictures = _write_pictures(out_dir, runs)
    figure = training_curves({run.name: run.stats for run in runs})
    curves = "curves.png" if figure else None
    if figure:
        write_figure(os.path.join(out_dir, "curves.png"), figure)
    page = page_template("report.html.j2").render(
        names=names,
        metrics=_metric_rows(runs),
        class_tables=_class_tables(runs),
        config_rows=_config_rows(runs),
        curves=curves,
        pictures=pictures,
        min_score=_MIN_SCORE,
        num_images=runs[0].results.get("num_images"),
    )
    path = os.path.join(out_dir, "report.html")
    write_text(path, page)
    return path


def _metric_rows(runs: Sequence[RunSummary]) -> list[dict]:
    rows = [_score_row(key, [run.results.get(key) for run in runs]) for key in METRICS]
    return [*rows, _time_row(runs)]


def _score_row(label: str, scores: Sequence[float | None]) -> dict:
    """Return a row of scores. The best one is marked if the shown numbers differ."""
    known = [score for score in scores if score is not None and np.isfinite(score)]
    texts = [f"{s:.3f}" if s is not None and np.isfinite(s) else "–" for s in scores]
    best = f"{max(known):.3f}" if known else None
    marked = len(set(texts)) > 1
    cells = [{"text": text, "best": marked and text == best} for text in texts]
    return {"label": label, "cells": cells}


def _time_row(runs: Sequence[RunSummary]) -> dict:
    cells = [{"text": _duration(run.train_seconds), "best": False} for run in runs]
    return {"label": "Training time", "cells": cells}


def _duration(total: float | None) -> str:
    if total is None:
        return "–"
    minutes, seconds = divmod(int(round(total)), 60)
    return f"{minutes} min {seconds:02d} s"


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
    """Return all settings of all runs; those that differ between runs come first."""
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    rows = []
    for key in keys:
        cells = [str(run.config[key]) if key in run.config else "–" for run in runs]
        rows.append({"label": key, "cells": cells, "differs": len(set(cells)) > 1})
    return sorted(rows, key=lambda row: not row["differs"])


def _write_pictures(folder: str, runs: Sequence[RunSummary]) -> list[dict]:
    """Write a PNG for each image, with its ground truth and the detections of each run.

    Returns:
        {name, file} of each picture.
    """
    shown = {}
    columns = 1 + len(runs)
    for run in runs:
        for picture in run.pictures:
            if picture.name not in shown:
                panel = _panel(
                    picture, picture.truth, run.class_names, 0.0, "ground truth", columns
                )
                shown[picture.name] = [panel]
            found = picture.detections
            panel = _panel(picture, found, run.class_names, _MIN_SCORE, run.name, columns)
            shown[picture.name].append(panel)
    written = []
    for number, (name, panels) in enumerate(shown.items(), start=1):
        file_name = f"picture_{number:02d}.png"
        sheet = contact_sheet(panels, columns=len(panels))
        write_bytes(os.path.join(folder, file_name), encoded(sheet))
        written.append({"name": name, "file": file_name})
    return written


def _panel(
    picture: Picture,
    boxes: Sequence[Mapping],
    class_names: Mapping[int, str],
    min_score: float,
    title: str,
    columns: int,
) -> np.ndarray:
    image, scaled = fit(picture.image, boxes, _PANEL_SIDE, columns)
    return titled(draw_boxes(image, scaled, class_names, min_score), title)
