"""The results of a sweep: a small JSON file, and tables in a Markdown page."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Sequence

from detectron_ext import config as configuration
from detectron_ext.errors import UserError
from detectron_ext.evaluation.comparison import LABELS, mean_and_deviation
from detectron_ext.evaluation.comparison_report import (
    Side,
    comparison,
    difference_titles,
    markdown_table,
    shown_difference,
    shown_label,
    shown_mean,
)
from detectron_ext.evaluation.operating_points import THRESHOLD
from detectron_ext.evaluation.run_folder import open_run
from detectron_ext.evaluation.training_differences import (
    PRIMARY,
    Design,
    correct_for_variants,
    explanation,
)
from detectron_ext.experiments.record import read_record
from detectron_ext.experiments.run_scores import FinishedRun, Scores, pooled_scores, scores
from detectron_ext.experiments.spec import Run, Spec, place_name
from detectron_ext.input_files import read_text
from detectron_ext.limits import MAX_JSON_BYTES
from detectron_ext.output_files import write_json, write_text

_LOG = logging.getLogger(__name__)
_SHOWN = (
    "AP", "AP50", "AP75", "box_precision", "box_recall", "concept_precision", "concept_recall",
    "peak_memory_mb",
)  # fmt: skip
# How a sweep names the primary metric.
_HOW_TO_NAME = "the key primary of the sweep's file names one"
_DIFFERENCES = ("AP", "AP50", "AP75", "box_best_f1", "concept_best_f1")
_KEPT = (
    "variant", "dataset", "size", "seed", "fold", "config", "overrides", "versions", "commit",
    "modified", "machine", "threads", "resumed", "seconds_training", "cpu_seconds_training",
    "cpu_seconds_of_last_process", "peak_memory_mb", "finished",
)  # fmt: skip


def collect_results(spec: Spec, results_dir: str, num_resamples: int = 1000) -> dict[str, Any]:
    """Score all finished runs of a sweep, and compare each variant with the baseline.

    A comparison takes the seeds whose runs have finished for both the variant and the baseline.
    Runs are scored on the first of their TEST.DATASETS.

    Args:
        spec: the sweep.
        results_dir: folder of the runs.
        num_resamples: number of bootstrap resamples.

    Returns:
        {sweep, missing, places}. ``missing`` lists the folders of runs that have not finished.
        ``places`` has an entry for each data set and size, with three keys: ``runs`` is a list of
        records with scores and costs, with folds one for each fold. ``pooled``, with folds only,
        is a list of the scores of each variant and seed on the images of all folds.
        ``comparisons`` has for each variant the result of
        :func:`detectron_ext.evaluation.comparison_report.comparison` and its seeds. ``warnings``
        is a list of lines about the runs.

    Raises:
        UserError: no run has finished, or the folder of a run is damaged.
    """
    done, missing = [], []
    for run in spec.runs:
        record = read_record(os.path.join(results_dir, run.folder))
        missing += [] if record else [run.folder]
        done += [(run, record)] if record else []
    if not done:
        raise UserError(f"no run of {spec.name} has finished in {results_dir}: run the sweep first")
    places: dict[str, list] = {}
    for run, record in done:
        places.setdefault(place_name(run.dataset, run.size), []).append((run, record))
    return {
        "sweep": spec.name,
        "missing": missing,
        "places": {
            name: _place(spec, results_dir, finished, num_resamples)
            for name, finished in places.items()
        },
    }


def _place(spec: Spec, results_dir: str, finished: list, num_resamples: int) -> dict[str, Any]:
    tests = [_opened(results_dir, run) for run, _ in finished]
    if spec.folds:
        scored = pooled_scores(tests, results_dir, num_resamples)
    else:
        scored = scores(tests, num_resamples)
    runs = []
    for (_, record), one in zip(finished, scored.trainings):
        told = {key: record.get(key) for key in _KEPT}
        runs.append({**told, "scores": one.values, "costs": one.costs})
    about = {
        "dataset": scored.dataset,
        "num_images": scored.num_images,
        "score_threshold": THRESHOLD,
        "num_resamples": num_resamples,
    }
    comparisons = _comparisons(spec, scored, about)
    warnings = [line for test in scored.tests for line in test.warnings]
    warnings += [line for compared in comparisons for line in compared["warnings"]]
    place: dict[str, Any] = {
        "runs": runs,
        "comparisons": comparisons,
        "warnings": list(dict.fromkeys(warnings)),
    }
    if spec.folds:
        place["pooled"] = [
            {"variant": variant, "seed": seed, "scores": one.values, "costs": one.costs}
            for (variant, seed), one in scored.models.items()
        ]
    return place


def _opened(results_dir: str, run: Run) -> FinishedRun:
    fold = run.fold.overrides(results_dir) if run.fold else []
    config = configuration.load(run.config_file, [*run.overrides, *fold])
    folder = os.path.join(results_dir, run.folder)
    return FinishedRun(run, config, open_run(folder, config.TEST.DATASETS[0], run.folder))


def _comparisons(spec: Spec, scored: Scores, about: dict) -> list:
    """Compare every variant with the baseline, over the seeds that both have.

    The p values are corrected for all variants of the sweep's file, finished or not.
    """
    design = Design(
        primary=spec.primary or PRIMARY,
        is_named=bool(spec.primary),
        is_paired=True,
        num_variants=max(1, len(spec.variants) - 1),
        num_folds=spec.folds.total if spec.folds else 0,
    )
    compared = []
    for name in spec.variants:
        seeds = sorted(
            seed for variant, seed in scored.models
            if variant == name and (spec.baseline, seed) in scored.models
        )  # fmt: skip
        if name != spec.baseline and seeds:
            sides = [_side(side, seeds, scored) for side in (spec.baseline, name)]
            compared.append({**comparison(sides[0], sides[1:], about, design), "seeds": seeds})
    candidates = [candidate for entry in compared for candidate in entry["candidates"]]
    correct_for_variants(candidates, design.num_variants)
    return compared


def _side(variant: str, seeds: Sequence[int], scored: Scores) -> Side:
    keys = [(variant, seed) for seed in seeds]
    folds = [one for key in keys for one in scored.folds.get(key, ())]
    return Side(variant, [scored.models[key] for key in keys], folds)


def write_report(results: dict, page: str) -> str:
    """Write ``<page without extension>/<sweep>.json`` and the sweep's part of the page.

    Returns:
        Path of the JSON file.

    Raises:
        UserError: an error of :func:`split_page`, or a file cannot be written.
    """
    before, after = split_page(page, results["sweep"])
    path = Path(page)
    json_path = path.with_suffix("") / f"{results['sweep']}.json"
    write_json(str(json_path), results)
    write_text(page, before + as_markdown(results) + after)
    return str(json_path)


def split_page(page: str, sweep: str) -> tuple[str, str]:
    """Return the text of a page before and after the part of a sweep.

    The part is between two comments that name the sweep. If the page has neither comment, the part
    is added at the end.

    Raises:
        UserError: the page is not readable text or its name has no extension; or a comment is
            missing, occurs twice or is in the wrong order.
    """
    path = Path(page)
    if not path.suffix:
        raise UserError(
            f"{page} has no extension: name a page such as {page}.md (the JSON file goes to folder "
            f"{page})"
        )
    try:
        text = read_text(path, MAX_JSON_BYTES) if path.exists() else ""
    except OSError as error:
        raise UserError(f"{page} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UserError(f"{page} is not UTF-8 text: name a Markdown file") from None
    begin, end = (f"<!-- {word} {sweep} -->" for word in ("begin", "end"))
    if begin not in text and end not in text:
        return f"{text.rstrip()}\n\n{begin}\n".lstrip(), f"{end}\n"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end or text.count(begin) + text.count(end) > 2:
        raise UserError(f"{page} must hold {begin} once and after it {end} once")
    return f"{before}{begin}\n", f"{end}{after}"


def as_markdown(results: dict) -> str:
    """Return tables of scores and differences for each data set and size, and the warnings."""
    parts = []
    for name, place in results["places"].items():
        about = place["comparisons"][0] if place["comparisons"] else None
        images = f", {about['num_images']} images of {about['dataset']}" if about else ""
        parts.append(f"**{name}**{images}")
        parts.append(markdown_table(_score_rows(place.get("pooled", place["runs"]))))
        if about:
            parts.append(markdown_table(_difference_rows(place["comparisons"])))
            parts.append(explanation(about["design"], _HOW_TO_NAME))
    if results["missing"]:
        parts.append(f"Not run yet: {len(results['missing'])} runs, so counts of runs differ.")
    parts += [f"Warning: {line}" for line in all_warnings(results)]
    return "\n" + "\n\n".join(parts) + "\n\n"


def all_warnings(results: dict) -> list:
    """Return the warnings about all runs, without repetitions."""
    lines = [line for place in results["places"].values() for line in place["warnings"]]
    return list(dict.fromkeys(lines))


def _score_rows(runs: Sequence[dict]) -> list:
    labels = {**LABELS, "peak_memory_mb": "MB"}
    rows = [["variant (runs)", *(labels[key] for key in _SHOWN)]]
    variants = list(dict.fromkeys(run["variant"] for run in runs))
    for variant in variants:
        own = [{**run["scores"], **run["costs"]} for run in runs if run["variant"] == variant]
        sides = {key: mean_and_deviation([scores[key] for scores in own]) for key in _SHOWN}
        cells = [shown_mean(key, side) for key, side in sides.items()]
        rows.append([f"{variant} ({len(own)})", *cells])
    return rows


def _difference_rows(comparisons: Sequence[dict]) -> list:
    """Return the rows of the table of differences, the primary metric of each variant first."""
    design = comparisons[0]["design"]
    titles = difference_titles(design)
    rows = [["difference from baseline", "", *titles[1:]]]
    shown = list(dict.fromkeys([design["primary"], *_DIFFERENCES]))
    for compared in comparisons:
        candidate = compared["candidates"][0]
        by_metric = {row["metric"]: row for row in candidate["rows"]}
        for metric in shown:
            row = by_metric[metric]
            label = f"{candidate['name']} ({len(compared['seeds'])}): {shown_label(row, design)}"
            rows.append([label, *shown_difference(row, design)])
    return rows
