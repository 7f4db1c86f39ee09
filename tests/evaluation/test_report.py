"""The demo's report."""

from __future__ import annotations

import math
import os
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from detectron_ext.errors import UserError
from detectron_ext.evaluation.plots import smooth
from detectron_ext.evaluation.report import Picture, RunSummary, write_demo_report


class Page(HTMLParser):
    """Rows of cell texts, best cells, image sources and open tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.best, self.sources, self.open, self.cell = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = attrs.get("class", "")
        if tag == "img":
            self.sources.append(attrs["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.rows[-1][-1] += data
            if self.cell == "best":
                self.best.append(data)


def run(name, ap, pictures=(), **more):
    results = {"AP": ap, "AP50": 0.9, "AP75": None, "APs": math.nan, "APm": ap, "APl": 0.7}
    results["per_class"] = {"cat": ap, "dog": 0.5}
    stats = [
        {"iter": i, "loss": f"{2 / (i + 1):.5f}", "fl_fpn3": 0.5, "fl_fpn4": 0.25, "lr": 0.01}
        for i in range(30)
    ]
    config = {"LIBRA.BFP.ON": name == "libra", "SOLVER.BASE_LR": 0.01}
    fields = {"stats": stats, "pictures": pictures, "class_names": {1: "cat"}, **more}
    return RunSummary(name, config, results, train_seconds=125.4, **fields)


def picture(name, boxes=1):
    box = {"bbox": [10, 10, 30, 30], "category_id": 1}
    found = [{**box, "score": 0.8}] * boxes
    return Picture(name, np.full((64, 80, 3), 90, np.uint8), [box], found)


def page_of(out_dir):
    with open(os.path.join(out_dir, "report.html"), encoding="utf-8") as stream:
        return Page(stream.read())


def test_report_compares_the_models(tmp_path):
    out = str(tmp_path / "demo")
    runs = [run("plain", 0.4321, [picture("a.png")]), run("libra", 0.5, [picture("a.png")])]
    assert write_demo_report(out, runs) == os.path.join(out, "report.html")
    page = page_of(out)
    assert page.open == []
    assert ["AP", "0.432", "0.500"] in page.rows and ["APs", "–", "–"] in page.rows
    assert ["AP50", "0.900", "0.900"] in page.rows and ["AP75", "–", "–"] in page.rows
    assert ["Training time", "2 min 05 s", "2 min 05 s"] in page.rows
    assert ["cat", "0.432", "0.500"] in page.rows
    # AP, APm and the cat's; equal scores have no best.
    assert page.best == ["0.500"] * 3
    settings = page.rows.index(["LIBRA.BFP.ON", "False", "True"])
    assert settings < page.rows.index(["SOLVER.BASE_LR", "0.01", "0.01"])


def test_pictures_of_the_same_name_share_a_row_and_exist(tmp_path):
    runs = [
        run("plain", 0.4, [picture("a.png"), picture("b.png")]),
        run("libra", 0.5, [picture("a.png", boxes=0)]),
    ]
    write_demo_report(str(tmp_path), runs)
    sources = page_of(str(tmp_path)).sources
    assert sources == ["curves.png", "picture_01.png", "picture_02.png"]
    first, second = (cv2.imread(str(tmp_path / name)) for name in sources[1:])
    # Ground truth and two models, against ground truth and one; 400 pixels high without titles.
    assert first.shape[1] == 3 * 500 + 2 * 6 and second.shape[1] == 2 * 500 + 6
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 5


def test_one_run_without_statistics_pictures_and_classes_is_reported(tmp_path):
    results = {"AP": None}
    write_demo_report(str(tmp_path), [RunSummary("only", {}, results, [], 0.0)])
    page = page_of(str(tmp_path))
    assert page.sources == [] and page.best == []
    assert ["AP", "–"] in page.rows
    assert os.listdir(str(tmp_path)) == ["report.html"]


def test_names_are_escaped(tmp_path):
    write_demo_report(str(tmp_path), [run("<script>x</script>", 0.5)])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_page_refers_to_nothing_outside_its_folder(tmp_path):
    write_demo_report(str(tmp_path), [run("plain", 0.5, [picture("a.png")])])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|src=\"/|href=\"/", text)


def test_losses_that_diverged_are_still_plotted(tmp_path):
    stats = [{"iter": i, "loss": "nan" if i > 5 else 1.0, "lr": 0.01} for i in range(9)]
    write_demo_report(str(tmp_path), [run("plain", 0.5, stats=stats)])
    assert (tmp_path / "curves.png").exists()


def test_bad_runs_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="different names"):
        write_demo_report(str(tmp_path), [])
    with pytest.raises(ValueError, match="different names"):
        write_demo_report(str(tmp_path), [run("same", 0.1), run("same", 0.2)])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/.*choose another folder"):
        write_demo_report(str(tmp_path / "file"), [run("plain", 0.5)])


def test_smooth_is_a_centred_mean_of_finite_values():
    np.testing.assert_allclose(smooth([0, 3, 6, 3, 0], reach=1), [1.5, 3, 4, 3, 1.5])
    np.testing.assert_allclose(smooth(np.arange(20.0), reach=4)[4:-4], np.arange(4.0, 16.0))
    np.testing.assert_allclose(smooth([1, math.nan, 3, math.inf, 5], 1)[1:4], [2, 3, 4])
    assert np.isnan(smooth([math.nan], reach=2)).all() and len(smooth([], reach=2)) == 0
