"""A comparison as Markdown, CSV, JSON and an HTML page that needs no other file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
from matplotlib.figure import Figure

from detectron_ext.errors import UserError
from detectron_ext.evaluation.comparison import Measured, compare, copies
from detectron_ext.evaluation.page import inline_image, page_template
from detectron_ext.evaluation.plots import finish, new_figure, style, training_curves
from detectron_ext.output_files import write_json

_COLUMNS = (
    "metric", "baseline", "candidate", "baseline_mean", "baseline_std", "candidate_mean",
    "candidate_std", "difference", "percent", "low", "high", "low_with_seeds", "high_with_seeds",
)  # fmt: skip

# Metrics that are shown without decimals.
_WHOLE = ("training_cpu_seconds", "training_seconds", "peak_memory_mb")


class Side(NamedTuple):
    """Runs of one model under one name; they differ only in their seeds.

    Attributes:
        name: name of the model.
        runs: the measured runs.
    """

    name: str
    runs: Sequence[Measured]


def comparison(baseline: Side, candidates: Sequence[Side], about: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a comparison as plain data.

    Args:
        baseline: the baseline.
        candidates: the candidates, measured on the same resamples.
        about: entries to add to the content: dataset, num_images, score_threshold, num_resamples.
    """
    sides = [baseline, *candidates]
    warnings = [line for side in sides for one in side.runs for line in one.run.warnings]
    warnings += [line for side in sides for line in copies(side.runs)]
    return {
        **about,
        "baseline": {"name": baseline.name, "runs": [one.run.name for one in baseline.runs]},
        "candidates": [
            {
                "name": side.name,
                "runs": [one.run.name for one in side.runs],
                "rows": compare(baseline.runs, side.runs),
            }
            for side in candidates
        ],
        "warnings": list(dict.fromkeys(warnings)),
    }


def write_comparison(
    output_dir: str, baseline: Side, candidates: Sequence[Side], about: dict[str, Any]
) -> dict[str, Any]:
    """Write comparison.json, .csv, .md and .html, and return the content of the JSON file.

    Args:
        output_dir: folder for the files; it is made if needed.
        baseline, candidates, about: see :func:`comparison`.

    Raises:
        UserError: the folder cannot be written.
    """
    content = comparison(baseline, candidates, about)
    folder = Path(output_dir)
    write_json(str(folder / "comparison.json"), content)
    try:
        (folder / "comparison.csv").write_text(as_csv(content), encoding="utf-8")
        (folder / "comparison.md").write_text(as_markdown(content), encoding="utf-8")
        page = _page(content, [baseline, *candidates])
        (folder / "comparison.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output_dir} cannot be written: {error.strerror}") from error
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
            low_high = [*(row["interval"] or (None, None))]
            low_high += [*(row["interval_with_seeds"] or (None, None))]
            writer.writerow(
                [row["metric"], content["baseline"]["name"], candidate["name"], *sides,
                 row["difference"], row["percent"], *low_high]
            )  # fmt: skip
    return stream.getvalue()


def as_markdown(content: dict) -> str:
    """Return a Markdown table for each candidate, and the warnings."""
    parts = []
    for candidate in content["candidates"]:
        head = shown_head(content["baseline"], candidate)
        parts.append(markdown_table([head, *map(shown_row, candidate["rows"])]))
    parts += [f"Warning: {line}" for line in content["warnings"]]
    return "\n\n".join(parts) + "\n"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as a Markdown table.

    The first row is the head. All columns but the first are aligned right.
    """
    lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown_head(baseline: dict, candidate: dict) -> list[str]:
    """Return the titles of the columns of :func:`shown_row`."""
    sides = [f"{side['name']} ({len(side['runs'])})" for side in (baseline, candidate)]
    return ["Metric (runs)", *sides, "difference", "%", "95 % over images", "and over seeds"]


def shown_row(row: dict) -> list[str]:
    """Return a row as texts: mean ± deviation of both sides, difference, percent, intervals."""
    digits = _digits(row["metric"])
    sides = [shown_mean(row["metric"], row[side]) for side in ("baseline", "candidate")]
    percent = "–" if row["percent"] is None else f"{row['percent']:+.1f}"
    difference = "–" if row["difference"] is None else f"{row['difference']:+.{digits}f}"
    intervals = [_interval(row[key]) for key in ("interval", "interval_with_seeds")]
    return [row["label"], *sides, difference, percent, *intervals]


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
            "head": shown_head(content["baseline"], candidate),
            "rows": [shown_row(row) for row in candidate["rows"]],
            "runs": candidate["runs"],
        }
        for candidate in content["candidates"]
    ]
    logs = {side.name: mean_log([one.training for one in side.runs]) for side in sides}
    figures = (
        ("Differences", "Each candidate minus the baseline, with the 95 % interval over images "
         "(thick line) and over images and seeds (thin line).", difference_figure(content)),
        ("Precision and recall", "Mean over the runs of each model, at scores from 0.05 to 0.95.",
         sweep_figure(sides)),
        ("Training", "Mean over the runs of each model. The faint curve is each logged loss, the "
         "other its moving average. If models have different loss functions, compare only the "
         "shapes of the curves.",
         training_curves(logs)),
    )  # fmt: skip
    return page_template("comparison.html.j2").render(
        content=content,
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
        for width, key in ((1.2, "interval_with_seeds"), (3.5, "interval")):
            for place, row in zip(places, rows):
                if row[key]:
                    ends = [100 * end for end in row[key]]
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
