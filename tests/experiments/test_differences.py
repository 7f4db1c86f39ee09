"""The figure of all differences: what is read from reports, and what is drawn."""

from __future__ import annotations

import copy
import json

import pytest
from squares import REPOSITORY

from detectron_ext.errors import UserError
from detectron_ext.experiments.differences import differences_figure, read_differences

_ROW = {
    "metric": "AP",
    "difference": 0.02,
    "over_trainings": {
        "counts": [3, 3], "difference": 0.03, "interval": [0.01, 0.05], "p_holm": 0.01,
    },
}  # fmt: skip


def _report(**row):
    candidate = {"name": "pyramid", "runs": ["b1", "b2", "b3"], "rows": [{**_ROW, **row}]}
    comparison = {"baseline": {"runs": ["a1", "a2", "a3"]}, "candidates": [candidate]}
    return {"sweep": "parts", "places": {"cells_64": {"comparisons": [comparison]}}}


def _write(folder, report, name="report.json"):
    path = folder / name
    path.write_text(report if isinstance(report, str) else json.dumps(report))
    return str(path)


def test_the_difference_over_trainings_is_read(tmp_path):
    (found,) = read_differences([_write(tmp_path, _report())])
    assert found == ("cells_64", "parts", "pyramid", 0.03, (0.01, 0.05), 0.01, 3)


def test_a_single_seed_has_no_interval(tmp_path):
    (found,) = read_differences([_write(tmp_path, _report(over_trainings=None))])
    assert (found.value, found.interval, found.p, found.pairs) == (0.02, None, None, 3)
    differences_figure([found])


def test_the_same_trainings_in_two_files_count_once(tmp_path):
    other = copy.deepcopy(_report())
    other["sweep"] = "again"
    other["places"]["cells_64"]["comparisons"][0]["candidates"][0]["runs"] = ["c1"]
    paths = [
        _write(tmp_path, _report()),
        _write(tmp_path, _report(), "same.json"),
        _write(tmp_path, other, "other.json"),
    ]
    assert [found.sweep for found in read_differences(paths)] == ["parts", "again"]


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "{}", '{"places": []}', "[" * 100_000, '{"places": {"a": {"comparisons": [1]}}}',
     _report(over_trainings={"interval": [0.1]}), _report(over_trainings={"interval": ["x", 1]}),
     _report(over_trainings={"p_holm": "small"}),
     _report(difference=float("nan"), over_trainings=None)],
)  # fmt: skip
def test_another_file_is_refused_in_one_line(tmp_path, content):
    with pytest.raises(UserError, match="is not the JSON file of a sweep's report") as caught:
        read_differences([_write(tmp_path, content)])
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_metric_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        read_differences([str(tmp_path / "none.json")])
    with pytest.raises(UserError, match="no variant is compared by APs"):
        read_differences([_write(tmp_path, _report())], "APs")


def test_the_figure_has_a_panel_for_each_data_set_and_fills_what_is_significant(tmp_path):
    shipped = sorted(map(str, (REPOSITORY / "docs/results").glob("*.json")))
    differences = read_differences([*shipped, _write(tmp_path, _report())])
    figure = differences_figure(differences)
    assert len(figure.axes) == len({difference.place for difference in differences})
    axes = figure.axes[-1]
    assert axes.get_title() == "cells_64"
    interval, mark = axes.get_lines()[:2]
    assert list(interval.get_xdata()) == [0.01, 0.05]
    assert mark.get_markerfacecolor() != "white"
    axes = differences_figure([difference._replace(p=0.2) for difference in differences]).axes[-1]
    assert axes.get_lines()[1].get_markerfacecolor() == "white"
