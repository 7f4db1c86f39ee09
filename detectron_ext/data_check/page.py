"""The page of a check: counts, charts, and what was found with its worst images."""

from __future__ import annotations

import base64
from typing import Mapping, NamedTuple, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from detectron_ext.counted import by_number, counted
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.image_decoding import STRETCH
from detectron_ext.data.transforms import read_file
from detectron_ext.data_check.annotation_table import AnnotationTable
from detectron_ext.data_check.finding import MAX_CASES, Case, Finding
from detectron_ext.errors import DatasetError
from detectron_ext.evaluation.drawing import draw_boxes, encoded, fit
from detectron_ext.evaluation.page import inline_image, page_template
from detectron_ext.evaluation.plots import COLOURS, finish, new_figure
from detectron_ext.output_files import write_text
from detectron_ext.sampling.anchor_coverage import Coverage

_LONGEST = 900
_SHORTEST = 240
_MAX_BOXES = 200
# The axis of a chart spans at least this factor, and has at most so many bars for integers.
_LEAST_RANGE = 4.0
_MOST_BARS = 30


class CheckedDataset(NamedTuple):
    """A data set and what the page tells about it.

    Attributes:
        dataset: the data set.
        table: its annotations.
        role: what it is for: "training", "testing" or both.
        lines: lines of counts.
        coverage: the fit of anchors and objects; None for a set that is not trained on.
    """

    dataset: CocoDataset
    table: AnnotationTable
    role: str
    lines: Sequence[str]
    coverage: Coverage | None


def write_page(path: str, checked: Sequence[CheckedDataset], findings: Sequence[Finding]) -> None:
    """Write the page; it needs no other file.

    Raises:
        UserError: the file cannot be written.
    """
    datasets = {entry.table.name: entry.dataset for entry in checked}
    page = page_template("check_data.html.j2").render(
        summary=_summary(findings),
        findings=[
            {
                "message": finding.message,
                "pictures": [_picture(case, datasets) for case in finding.cases],
            }
            for finding in findings
        ],
        datasets=[
            {
                "name": entry.table.name,
                "role": entry.role,
                "lines": entry.lines,
                "classes": entry.table.boxes_per_class(),
                "charts": inline_image(_charts(entry)) if len(entry.table.boxes) else "",
            }
            for entry in checked
        ],
    )
    write_text(path, page)


def _summary(findings: Sequence[Finding]) -> str:
    if not findings:
        return "Nothing is wrong."
    things = counted(len(findings), "thing")
    return (
        f"{things} {by_number(len(findings), 'is', 'are')} wrong or suspicious. Below each one "
        f"stand images that show it, at most {MAX_CASES}. The boxes at fault are drawn, with their "
        "class. The counts and charts of each data set follow at the end."
    )


def _picture(case: Case, datasets: Mapping[str, CocoDataset]) -> dict:
    dataset = datasets[case.dataset]
    described = dataset.coco.imgs[case.image_id]
    caption = f"{case.dataset}: {described['file_name']}, {case.caption}"
    size = (int(described["height"]), int(described["width"]))
    try:
        image = read_file(dataset.image_path(case.image_id), size, STRETCH)
    except DatasetError:
        return {"source": "", "caption": caption + " (no picture)"}
    is_finite = np.isfinite(case.boxes).all(axis=1)
    finite = case.boxes[is_finite]
    labels = [text for text, kept in zip(case.labels or [""] * len(case.boxes), is_finite) if kept]
    # A box far outside is drawn up to the border.
    corners = np.concatenate((finite[:, :2], finite[:, :2] + finite[:, 2:]), axis=1)
    corners = np.clip(corners, -2, np.tile((image.shape[1] + 2, image.shape[0] + 2), 2))
    boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)
    if len(boxes) > _MAX_BOXES:
        caption += f" (the first {_MAX_BOXES} of {len(boxes)} boxes)"
    drawn = [
        {"bbox": box.tolist(), "category_id": _number(text, labels)}
        for box, text in zip(boxes[:_MAX_BOXES], labels)
    ]
    image, drawn = fit(image, drawn, _SHORTEST, longest=_LONGEST)
    data = encoded(draw_boxes(image, drawn, dict(enumerate(sorted(set(labels))))), ".jpg")
    source = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
    return {"source": source, "caption": caption}


def _number(text: str, labels: Sequence[str]) -> int:
    """Return the place of a label among the sorted ones."""
    return sorted(set(labels)).index(text)


def _charts(entry: CheckedDataset) -> Figure:
    """Draw histograms of sizes, ratios and boxes per image; sizes by the fit of anchors."""
    figure = new_figure(11, 3)
    table, coverage = entry.table, entry.coverage
    axes = figure.add_subplot(1, 3, 1)
    sides = table.boxes[:, 2:][(table.boxes[:, 2:] > 0).all(axis=1)]
    if coverage is None:
        _log_histogram(axes, [np.sqrt(sides.prod(axis=1))], [""])
        finish(axes, "Size of the boxes", "square root of the area in pixels", "boxes")
    else:
        size = np.sqrt(np.maximum(coverage.sides.prod(axis=1), 1e-3))
        between = ~(coverage.below | coverage.above)
        groups = [size[coverage.below], size[between], size[coverage.above]]
        low, high = coverage.rules.negative, coverage.rules.positive
        labels = [f"below {low:g}", f"{low:g} to {high:g}", f"above {high:g}"]
        _log_histogram(axes, groups, labels)
        axes.legend(frameon=False, fontsize=8, title="best IoU with an anchor", title_fontsize=8)
        finish(axes, "Size after scaling", "square root of the area in pixels", "boxes")
    axes = figure.add_subplot(1, 3, 2)
    _log_histogram(axes, [sides[:, 1] / sides[:, 0]], [""])
    finish(axes, "Aspect ratio", "height / width", "boxes")
    axes = figure.add_subplot(1, 3, 3)
    _count_histogram(axes, table.boxes_per_image)
    finish(axes, "Boxes per image", "boxes", "images")
    return figure


def _log_histogram(axes, groups: Sequence[np.ndarray], labels: Sequence[str]) -> None:
    values = np.concatenate(groups)
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if high < _LEAST_RANGE * low:  # values that are nearly equal stand in the middle
        margin = np.sqrt(_LEAST_RANGE * low / high)
        low, high = low / margin, high * margin
    bins = np.geomspace(low, high, 31)
    bins[0], bins[-1] = low, high
    colours = [COLOURS[1], COLOURS[4], COLOURS[0]][-len(groups) :]
    axes.hist(list(groups), bins=bins, stacked=True, color=colours, label=list(labels))
    axes.set_xscale("log")
    # Plain numbers, few enough not to overlap.
    steps = (1.0, 2.0, 5.0) if high < 50 * low else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _count_histogram(axes, counts: np.ndarray) -> None:
    """Draw a histogram of integers; a bar stands over its integer, or over a range of them."""
    low, high = int(counts.min()), int(counts.max())
    width = -(-(high - low + 1) // _MOST_BARS)
    axes.hist(counts, bins=np.arange(low, high + width + 1, width) - 0.5, color=COLOURS[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
