"""A comparison as Markdown, CSV, JSON and an HTML page that needs no other file."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, NamedTuple, Sequence

import numpy as np
from matplotlib.figure import Figure

from detectron_ext.evaluation.comparison import Measured, compare, copies
from detectron_ext.evaluation.page import inline_image, page_template
from detectron_ext.evaluation.plots import finish, new_figure, style, training_curves
from detectron_ext.evaluation.training_differences import (
    Design,
    correct_for_variants,
    described,
    explanation,
    fill_training_differences,
)
from detectron_ext.output_files import write_json, write_text

_COLUMNS = (
    "metric", "baseline", "candidate", "baseline_mean", "baseline_std", "candidate_mean",
    "candidate_std", "difference", "percent", "low", "high", "method", "low_over_trainings",
    "high_over_trainings", "p", "p_holm", "detectable",
)  # fmt: skip

# How a user of tools/compare_runs.py names the primary metric.
HOW_TO_NAME = "--primary names one"

# Metrics that are shown without decimals.
_WHOLE = ("training_cpu_seconds", "training_seconds", "peak_memory_mb")


class Side(NamedTuple):
    """Runs of one model under one name; they differ only in their seeds.

    Attributes:
        name: name of the model.
        runs: the measured runs.
        folds: with cross-validation, the trainings of all folds of these runs; each run is then
            the pooled test of its folds.
    """

    name: str
    runs: Sequence[Measured]
    folds: Sequence[Measured] = ()

    @property
    def trainings(self) -> Sequence[Measured]:
        """The trainings whose scores are compared: of the folds, or the runs themselves."""
        return self.folds or self.runs


def comparison(
    baseline: Side, candidates: Sequence[Side], about: dict[str, Any], design: Design
) -> dict[str, Any]:
    """Return the content of a comparison as plain data.

    Args:
        baseline: the baseline.
        candidates: the candidates, measured on the same resamples.
        about: entries to add to the content: dataset, num_images, score_threshold, num_resamples.
        design: how the runs were planned. Its num_variants is for the correction of the p values,
            see `training_differences.correct_for_variants`; the candidates given here are corrected
            together.
    """
    sides = [baseline, *candidates]
    compared = [
        {
            "name": side.name,
            "runs": [one.run.name for one in side.runs],
            "rows": _rows(baseline, side, design),
        }
        for side in candidates
    ]
    correct_for_variants(compared, design.num_variants)
    warnings = [line for side in sides for one in side.runs for line in one.run.warnings]
    warnings += [line for side in sides for line in copies(side.runs)]
    return {
        **about,
        "design": described(design),
        "baseline": {"name": baseline.name, "runs": [one.run.name for one in baseline.runs]},
        "candidates": compared,
        "warnings": list(dict.fromkeys(warnings)),
    }


def _rows(baseline: Side, candidate: Side, design: Design) -> list[dict]:
    rows = compare(baseline.runs, candidate.runs)
    fill_training_differences(rows, baseline.trainings, candidate.trainings, design)
    return rows


def write_comparison(
    output_dir: str,
    baseline: Side,
    candidates: Sequence[Side],
    about: dict[str, Any],
    design: Design,
) -> dict[str, Any]:
    """Write comparison.json, .csv, .md and .html, and return the content of the JSON file.

    Args:
        output_dir: folder for the files; it is made if needed.
        baseline, candidates, about, design: see :func:`comparison`.

    Raises:
        UserError: the folder cannot be written.
    """
    content = comparison(baseline, candidates, about, design)
    path = os.path.join(output_dir, "comparison")
    write_json(path + ".json", content)
    write_text(path + ".csv", as_csv(content))
    write_text(path + ".md", as_markdown(content))
    write_text(path + ".html", _page(content, [baseline, *candidates]))
    return content


def as_csv(content: dict) -> str:
    """Return CSV with a line for each candidate and metric. Undefined numbers are empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for candidate in content["candidates"]:
        for row in candidate["rows"]:
            sides = [
                row[side][key] for side in ("baseline", "candidate") for key in ("mean", "std")
            ]
            over = row["over_trainings"] or {}
            trained = [over.get("method"), *over.get("interval", (None, None))]
            trained += [over.get(key) for key in ("p", "p_holm", "detectable")]
            writer.writerow(
                [row["metric"], content["baseline"]["name"], candidate["name"], *sides,
                 row["difference"], row["percent"], *(row["interval"] or (None, None)), *trained]
            )  # fmt: skip
    return stream.getvalue()


def as_markdown(content: dict) -> str:
    """Return a Markdown table for each candidate, what its columns are, and the warnings."""
    parts = []
    for candidate in content["candidates"]:
        parts.append(markdown_table(_shown_table(content, candidate)))
    parts.append(explanation(content["design"], HOW_TO_NAME))
    parts += [f"Warning: {line}" for line in content["warnings"]]
    return "\n\n".join(parts) + "\n"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as a Markdown table.

    The first row is the head. All columns but the first are aligned right.
    """
    lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown_table(content: dict, candidate: dict) -> list[list[str]]:
    sides = [f"{side['name']} ({len(side['runs'])})" for side in (content["baseline"], candidate)]
    design = content["design"]
    head = ["Metric (runs)", *sides, *difference_titles(design)]
    return [head, *(shown_row(row, design) for row in candidate["rows"])]


def difference_titles(design: dict) -> list[str]:
    """Return the titles of the columns of :func:`shown_difference`."""
    titles = ["difference", "%", "95 % over images"]
    if design["num_folds"]:
        titles += ["mean of folds", "95 % over seeds and folds", "and over other images"]
    else:
        titles += ["95 % over trainings"]
    return [*titles, "p" if design["num_variants"] == 1 else "p (Holm)", "detectable"]


def shown_row(row: dict, design: dict) -> list[str]:
    """Return a row as texts: its label, mean ± deviation of both sides, :func:`shown_difference`.

    The label of the primary metric is bold.
    """
    sides = [shown_mean(row["metric"], row[side]) for side in ("baseline", "candidate")]
    return [shown_label(row, design), *sides, *shown_difference(row, design)]


def shown_label(row: dict, design: dict) -> str:
    """Return the label of a row; that of the primary metric is bold."""
    return f"**{row['label']}**" if row["metric"] == design["primary"] else row["label"]


def shown_difference(row: dict, design: dict) -> list[str]:
    """Return the difference of a row as texts, under the titles of :func:`difference_titles`."""
    percent = "–" if row["percent"] is None else f"{row['percent']:+.1f}"
    cells = [
        _signed(row["difference"], _digits(row["metric"])),
        percent,
        _interval(row["interval"]),
    ]
    over = row["over_trainings"] or {}
    if design["num_folds"]:
        cells.append(_signed(over.get("difference")))
    cells.append(_interval(over.get("interval")))
    if design["num_folds"]:
        cells.append(_interval(over.get("interval_of_other_images")))
    detectable = over.get("detectable")
    return [
        *cells,
        _p_value(over.get("p_holm")),
        "–" if detectable is None else f"{detectable:.3f}",
    ]


def _signed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:+.{digits}f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def _digits(metric: str) -> int:
    return 0 if metric in _WHOLE else 3


def shown_mean(metric: str, side: dict) -> str:
    """Return mean ± deviation as text."""
    if side["mean"] is None:
        return "–"
    digits = _digits(metric)
    spread = "" if side["std"] is None else f" ± {side['std']:.{digits}f}"
    return f"{side['mean']:.{digits}f}{spread}"


def _interval(interval: list | None) -> str:
    return "–" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _page(content: dict, sides: Sequence[Side]) -> str:
    tables = [
        {
            "name": candidate["name"],
            "head": head,
            "rows": rows,
            "runs": candidate["runs"],
        }
        for candidate in content["candidates"]
        for head, *rows in [_shown_table(content, candidate)]
    ]
    logs = {side.name: mean_log([one.training for one in side.runs]) for side in sides}
    figures = (
        ("Differences", "Each candidate minus the baseline, with the 95 % interval over images "
         "(thick line) and over trainings (thin line).", difference_figure(content)),
        ("Precision and recall", "Mean over the runs of each model, at scores from 0.05 to 0.95.",
         sweep_figure(sides)),
        ("Training", "Mean over the runs of each model. The faint curve is each logged loss, the "
         "other its moving average. If models have different loss functions, compare only the "
         "shapes of the curves.",
         training_curves(logs)),
    )  # fmt: skip
    return page_template("comparison.html.j2").render(
        content=content,
        explanation=explanation(content["design"], HOW_TO_NAME),
        tables=tables,
        figures=[
            {"title": title, "caption": caption, "source": inline_image(figure)}
            for title, caption, figure in figures
            if figure is not None
        ],
    )


def difference_figure(content: dict) -> Figure | None:
    """Plot the differences of all scores with their intervals, in hundredths.

    Without an interval there is nothing to plot, and None is returned.
    """
    shown = [
        (candidate["name"], [row for row in candidate["rows"] if row["interval"]])
        for candidate in content["candidates"]
    ]
    labels = list(dict.fromkeys(row["label"] for _, rows in shown for row in rows))
    if not labels:
        return None
    figure = new_figure(8, 1.6 + 0.22 * len(labels) * (len(shown) + 0.6))
    axes = figure.add_subplot(1, 1, 1)
    for number, (name, rows) in enumerate(shown):
        places = np.array([labels.index(row["label"]) for row in rows], float)
        places += (number - (len(shown) - 1) / 2) * 0.8 / len(shown)
        colour = style(number)["color"]
        for place, row in zip(places, rows):
            over = (row["over_trainings"] or {}).get("interval")
            for width, interval in ((1.2, over), (3.5, row["interval"])):
                if interval:
                    ends = [100 * end for end in interval]
                    axes.plot(ends, [place, place], color=colour, linewidth=width)
        middles = [100 * row["difference"] for row in rows]
        marker = "osD^vP"[number % 6]
        axes.plot(middles, places, marker, color=colour, markeredgecolor="black", label=name)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(labels)))
    axes.set_yticklabels(labels)
    axes.invert_yaxis()
    title = f"Difference from {content['baseline']['name']} on {content['dataset']}"
    finish(axes, title, "points (hundredths; right is better)", "")
    axes.legend(frameon=False, fontsize=9)
    return figure


def sweep_figure(sides: Sequence[Side]) -> Figure | None:
    """Plot precision against recall of boxes and of concepts over score thresholds."""
    if not any(one.sweeps for side in sides for one in side.runs):
        return None
    figure = new_figure(10, 4)
    for column, kind in enumerate(("box", "concept"), start=1):
        axes = figure.add_subplot(1, 2, column)
        for number, side in enumerate(sides):
            sweeps = [one.sweeps[kind] for one in side.runs if one.sweeps]
            if sweeps:
                recall, precision = (
                    _mean_curve([sweep[key] for sweep in sweeps]) for key in ("recall", "precision")
                )
                axes.plot(recall, precision, marker=".", label=side.name, **style(number))
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        finish(axes, f"{kind.capitalize()} precision and recall", "recall", "precision")
        axes.legend(frameon=False, fontsize=9)
    return figure


def mean_log(logs: Sequence[Sequence[dict]]) -> list[dict[str, float]]:
    """Return the mean of several training logs, at the iterations that all have logged."""
    by_iteration = [{entry["iter"]: entry for entry in log if "iter" in entry} for log in logs]
    means = []
    for iteration in by_iteration[0]:
        entries = [log[iteration] for log in by_iteration if iteration in log]
        if len(entries) == len(logs):
            numbers = [
                key
                for key, value in entries[0].items()
                if isinstance(value, (int, float)) and all(key in entry for entry in entries)
            ]
            mean = {key: float(np.mean([entry[key] for entry in entries])) for key in numbers}
            means.append({**mean, "iter": iteration})
    return means


def _mean_curve(curves: Sequence[list]) -> np.ndarray:
    """Return the mean over runs; NaN where a run has no value."""
    return np.array(curves, np.float64).mean(axis=0)
