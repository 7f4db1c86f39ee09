"""Comparing runs."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
from random_scenes import part, scene
from scipy.stats import ttest_ind, ttest_rel
from tested_run import write_test

from detectron_ext import config as configuration
from detectron_ext.commands.compare import compare_runs
from detectron_ext.errors import UserError
from detectron_ext.evaluation.coco_eval import METRICS, match_detections, summarise
from detectron_ext.evaluation.comparison import (
    compare,
    image_resamples,
    measure,
)
from detectron_ext.evaluation.comparison_report import (
    Side,
    as_csv,
    as_markdown,
    comparison,
    mean_log,
)
from detectron_ext.evaluation.run_folder import open_run
from detectron_ext.evaluation.training_differences import Design
from detectron_ext.evaluation.training_log import TrainingLog, training_costs

_ABOUT = {"dataset": "cats_val", "num_images": 40, "score_threshold": 0.5, "num_resamples": 200}


def _worse(detections, rng, share):
    """The same with a share of the boxes somewhere else."""
    moved = []
    for found in detections:
        box = [found["bbox"][0] + 300, *found["bbox"][1:]]
        moved.append({**found, "bbox": box} if rng.random() < share else found)
    return moved


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Ground truth of 40 images, resamples, and runs: three equal seeds, three worse ones."""
    folder = tmp_path_factory.mktemp("runs")
    coco, detections = scene(7, num_images=40)
    (folder / "truth.json").write_text(json.dumps(coco.dataset))
    rng = np.random.default_rng(0)
    for seed in range(3):
        good, bad = _worse(detections, rng, 0.05), _worse(detections, rng, 0.6)
        for name, found in ((f"good{seed}", good), (f"bad{seed}", bad)):
            results = summarise(match_detections(coco, found))
            write_test(folder / name, {"detections.json": found, "results.json": results})
    return folder, coco, image_resamples(40, 200)


def _measured(world, *names):
    folder, coco, weights = world
    return [measure(open_run(str(folder / name)), coco, weights) for name in names]


def _by_metric(rows):
    return {row["metric"]: row for row in rows}


def test_identical_runs_do_not_differ(world):
    rows = compare(_measured(world, "good0", "good1"), _measured(world, "good0", "good1"))
    for row in rows:
        if row["metric"] in METRICS:
            assert row["difference"] == row["percent"] == 0
            assert row["interval"] == [0, 0]


def test_a_worse_run_differs_significantly(world):
    good, bad = _measured(world, *(f"good{n}" for n in range(3))), _measured(world, "bad0", "bad1")
    rows = _by_metric(compare(good, bad))
    for name in ("AP", "AP50", "box_recall"):
        row = rows[name]
        assert row["difference"] == row["candidate"]["mean"] - row["baseline"]["mean"]
        assert row["percent"] == pytest.approx(100 * row["difference"] / row["baseline"]["mean"])
        assert row["interval"][0] < row["difference"] < row["interval"][1] < 0
    values = rows["AP"]["baseline"]["values"]
    assert rows["AP"]["baseline"]["std"] == pytest.approx(np.std(values, ddof=1))
    told = json.loads((world[0] / "good0/test/cats_val/retinanet/results.json").read_text())
    assert values[0] == told["AP"]


def test_the_interval_over_images_has_the_expected_width(world):
    """The bootstrap interval of a mean reaches about 1.96 standard errors to each side."""
    (good,), (bad,) = _measured(world, "good0"), _measured(world, "bad0")
    row = _by_metric(compare([good], [bad]))["concept_recall"]
    spread = np.std(bad.samples["concept_recall"] - good.samples["concept_recall"])
    assert row["interval"][1] - row["interval"][0] == pytest.approx(2 * 1.96 * spread, rel=0.25)


def test_a_run_without_detections_has_no_differences(world, tmp_path):
    write_test(tmp_path / "old", {"results.json": {"AP": 0.5, "AP50": 0.6, "num_images": 40}})
    old = measure(open_run(str(tmp_path / "old")), *world[1:])
    rows = _by_metric(compare(_measured(world, "good0"), [old]))
    assert rows["AP"]["candidate"]["mean"] == 0.5
    assert rows["AP"]["interval"] is None
    for name in ("AP75", "box_recall", "training_seconds", "training_cpu_seconds"):
        assert rows[name]["candidate"]["mean"] is rows[name]["difference"] is None
    content = comparison(Side("a", _measured(world, "good0")), [Side("b", [old])], _ABOUT, Design())
    assert "Warning: " in as_markdown(content) and "the detections were not kept" in as_markdown(
        content
    )


def test_annotations_of_another_size_are_refused(world, tmp_path):
    write_test(
        tmp_path / "run", {"detections.json": [], "results.json": {"AP": 0, "num_images": 9}}
    )
    with pytest.raises(UserError, match="was tested on 9 images"):
        measure(open_run(str(tmp_path / "run")), *world[1:])


def test_results_that_disagree_with_the_detections_are_a_warning(world, tmp_path):
    write_test(tmp_path / "run", {"detections.json": [], "results.json": {"AP": 0.5}})
    run = open_run(str(tmp_path / "run"))
    measure(run, *world[1:])
    assert "results.json has AP 0.5000, but its detections have AP 0.0000" in run.warnings[0]


def test_detections_of_unknown_classes_are_a_warning(world, tmp_path):
    found = {"image_id": 1, "category_id": 77, "bbox": [0, 0, 9, 9], "score": 0.9}
    write_test(tmp_path / "run", {"detections.json": [found]})
    run = open_run(str(tmp_path / "run"))
    measure(run, *world[1:])
    assert (
        "not scored: 1 of 1 detection, of classes that the annotations do not have"
        in run.warnings[1]
    )


def test_costs_are_added_up_over_the_processes_of_a_run():
    first = {"cpu_seconds": 2.0, "seconds": 9.0, "time": 0.5, "mem": 300}
    resumed = {"cpu_seconds": 1.5, "seconds": 1.0, "time": 0.1, "mem": 200}
    assert training_costs(TrainingLog([first, resumed])) == {
        "training_cpu_seconds": 3.5, "training_seconds": 10, "step_seconds": 0.3,
        "peak_memory_mb": 300,
    }  # fmt: skip


def test_costs_are_missing_if_a_part_of_the_log_lacks_them():
    """An earlier version without CPU times began the log, or there is no log."""
    entries = [{"seconds": 9.0}, {"seconds": 1.0, "cpu_seconds": 0.5, "time": 2}]
    costs = training_costs(TrainingLog(entries))
    assert (costs["training_cpu_seconds"], costs["training_seconds"]) == (None, 10)
    assert set(training_costs(TrainingLog([])).values()) == {None}
    costs = training_costs(TrainingLog(entries, num_damaged=1))
    assert (costs["training_seconds"], costs["step_seconds"]) == (None, 2)


def test_all_forms_of_the_table_have_the_same_numbers(world):
    sides = Side("plain", _measured(world, "good0", "good1")), Side("odd", _measured(world, "bad0"))
    content = comparison(sides[0], sides[1:], _ABOUT, Design())
    rows = list(csv.DictReader(io.StringIO(as_csv(content))))
    told = _by_metric(content["candidates"][0]["rows"])
    assert [row["metric"] for row in rows] == list(told)
    for row in rows:
        difference = told[row["metric"]]["difference"]
        assert row["difference"] == ("" if difference is None else str(difference))
    lines = as_markdown(content).splitlines()
    assert lines[0].startswith("| Metric (runs) | plain (2) | odd (1) |")
    assert len(lines) == 2 + len(told) + 2
    assert lines[-1].startswith("Primary metric: AP (none was named: --primary names one). ")
    ap = told["AP"]
    assert f"| {ap['candidate']['mean']:.3f} | {ap['difference']:+.3f} |" in as_markdown(content)


def test_all_forms_tell_the_interval_over_trainings(world):
    sides = [
        Side(name, _measured(world, *runs))
        for name, runs in (
            ("plain", ("good0", "good1", "good2")),
            ("odd", ("bad0", "bad1", "bad2")),
            ("other", ("bad2", "bad0", "good1")),
        )
    ]
    design = Design("AP50", True, True, num_variants=2)
    content = comparison(sides[0], sides[1:], _ABOUT, design)
    values = [[one.values["AP50"] for one in side.runs] for side in sides]
    p_values = [ttest_rel(side, values[0]).pvalue for side in values[1:]]
    over = [_by_metric(one["rows"])["AP50"]["over_trainings"] for one in content["candidates"]]
    assert [one["p"] for one in over] == pytest.approx(p_values)
    assert [one["p_holm"] for one in over] == pytest.approx([2 * p_values[0], p_values[1]])
    row = [row for row in csv.DictReader(io.StringIO(as_csv(content))) if row["metric"] == "AP50"][
        0
    ]
    told = [float(row[f"{end}_over_trainings"]) for end in ("low", "high")]
    assert told == over[0]["interval"] and float(row["p_holm"]) == over[0]["p_holm"]
    assert row["method"] == "paired t" and float(row["detectable"]) == over[0]["detectable"]
    markdown = as_markdown(content)
    low, high = over[0]["interval"]
    assert "| **AP50** |" in markdown and f"| {low:+.3f} to {high:+.3f} | {over[0]['p_holm']:.3f} |"
    assert "Primary metric: AP50. " in markdown and "Holm's correction over 2 variants" in markdown


def test_runs_that_are_no_pairs_are_compared_by_welchs_test(world, tmp_path, caplog):
    caplog.set_level("INFO")
    truth = str(world[0] / "truth.json")
    good = [str(world[0] / f"good{k}") for k in range(3)]
    bad = [str(world[0] / f"bad{k}") for k in range(2)]
    options = {"annotations": truth, "num_resamples": 5}
    compare_runs(configuration.load(), good, [bad], str(tmp_path), **options)
    content = json.loads((tmp_path / "comparison.json").read_text())
    row = _by_metric(content["candidates"][0]["rows"])["AP"]
    values = [row[side]["values"] for side in ("candidate", "baseline")]
    assert row["over_trainings"]["method"] == "Welch" and row["over_trainings"]["counts"] == [3, 2]
    assert row["over_trainings"]["p"] == pytest.approx(ttest_ind(*values, equal_var=False).pvalue)
    assert "compared as unpaired (Welch)" in caplog.text
    with pytest.raises(UserError, match="--paired needs as many runs on every side, given 3, 2"):
        compare_runs(configuration.load(), good, [bad], str(tmp_path), is_paired=True, **options)
    compare_runs(
        configuration.load(), good[:2], [bad], str(tmp_path), is_paired=True, primary="box_recall",
        **options,
    )  # fmt: skip
    content = json.loads((tmp_path / "comparison.json").read_text())
    row = _by_metric(content["candidates"][0]["rows"])["AP"]
    assert row["over_trainings"]["method"] == "paired t"
    assert content["design"]["primary"] == "box_recall" and content["design"]["paired"]


def test_the_curve_of_a_side_is_the_mean_of_its_runs():
    first = [{"iter": 0, "loss": 4, "eta": "0:01"}, {"iter": 20, "loss": 2}, {"iter": 23}]
    second = [{"iter": 0, "loss": 2, "eta": "0:02"}, {"loss": 7}, {"iter": 20, "loss": 1, "lr": 1}]
    assert mean_log([first, second]) == [{"iter": 0, "loss": 3}, {"iter": 20, "loss": 1.5}]
    assert mean_log([first, []]) == []


def test_the_page_needs_no_other_file(world, tmp_path):
    folder = world[0]
    markdown = compare_runs(
        configuration.load(), [str(folder / "good0")],
        [[str(folder / "bad0")], [str(folder / "bad1")]],
        str(tmp_path), annotations=str(folder / "truth.json"), num_resamples=20,
    )  # fmt: skip
    assert (tmp_path / "comparison.md").read_text() == markdown
    page = (tmp_path / "comparison.html").read_text()
    assert page.count("<table>") == 2
    assert page.count('src="data:image/svg+xml;base64,') == page.count("<img ") == 2
    assert "use the CPU time of all threads" in page and "Training, CPU time (s)" in markdown
    assert "<script" not in page and "http" not in page.replace("https://", "")
    assert len(json.loads((tmp_path / "comparison.json").read_text())["candidates"]) == 2


def _tested_without(world, path, skipped, name="good0"):
    """A copy of a run whose test skipped some images."""
    found = json.loads((world[0] / name / "test/cats_val/retinanet/detections.json").read_text())
    truth, found = part(world[1], found, set(world[1].imgs) - set(skipped))
    results = {**summarise(match_detections(truth, found)), "untested_images": skipped}
    write_test(path, {"detections.json": found, "results.json": results})
    return str(path), results["AP"]


def _compare(world, tmp_path, baseline, candidate, **options):
    """What comparison.json holds."""
    truth = str(world[0] / "truth.json")
    out = tmp_path / "out"
    options = {"annotations": truth, "num_resamples": 5, **options}
    compare_runs(configuration.load(), [baseline], [[candidate]], str(out), **options)
    return json.loads((out / "comparison.json").read_text())


def test_images_that_no_run_was_tested_on_do_not_count(world, tmp_path):
    baseline, ap = _tested_without(world, tmp_path / "a", [2, 7])
    candidate, _ = _tested_without(world, tmp_path / "b", [7, 2], "bad0")
    content = _compare(world, tmp_path, baseline, candidate)
    assert content["num_images"] == 38
    assert content["candidates"][0]["rows"][6]["baseline"]["mean"] == ap
    (warning,) = content["warnings"]
    assert warning.startswith("2 of 40 images of cats_val were skipped")


def test_runs_that_skipped_different_images_are_refused(world, tmp_path):
    skipping, _ = _tested_without(world, tmp_path / "a", [2, 7])
    with pytest.raises(UserError, match=r"not tested on the same images \(they skipped 0 and 2"):
        _compare(world, tmp_path, str(world[0] / "good0"), skipping)


@pytest.mark.parametrize("missing, named", [("images", "image"), ("categories", "class")])
def test_no_tested_images_or_classes_are_an_error(world, tmp_path, missing, named):
    write_test(tmp_path / "run", {"detections.json": []})
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({**world[1].dataset, missing: [], "annotations": []}))
    run, options = str(tmp_path / "run"), {"names": ["a", "b"], "annotations": str(truth)}
    with pytest.raises(UserError, match=f"cats_val has no {named} that was tested"):
        _compare(world, tmp_path, run, run, **options)


def test_a_detection_in_an_unknown_image_is_named_with_its_run(world, tmp_path):
    found = {"image_id": 99, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.9}
    write_test(tmp_path / "run", {"detections.json": [found]})
    with pytest.raises(UserError, match="/run: a detection is in image 99, which"):
        measure(open_run(str(tmp_path / "run")), *world[1:])


def test_a_test_that_kept_only_high_scores_is_a_warning(world, tmp_path):
    folder, coco, weights = world
    path = folder / "good0/test/cats_val/retinanet/detections.json"
    found = [one for one in json.loads(path.read_text()) if one["score"] >= 0.3]
    write_test(tmp_path / "run", {"detections.json": found, "results.json": {"AP": None}})
    few = {"detections.json": found[:19], "results.json": {"AP": None}}
    write_test(tmp_path / "few", few)
    for name, threshold, lines in (("run", 0.2, 1), ("run", 0.3, 0), ("few", 0.2, 0)):
        run = open_run(str(tmp_path / name))
        measure(run, coco, weights[:2], threshold)
        assert len(run.warnings) == lines
        assert all("kept no scores below 0.30" in line for line in run.warnings)


def test_the_same_run_twice_on_one_side_is_a_warning(world, tmp_path):
    shutil.copytree(str(world[0] / "good0"), str(tmp_path / "copy"))
    copy = measure(open_run(str(tmp_path / "copy")), *world[1:])
    runs = _measured(world, "good0", "good1")
    content = comparison(Side("a", [*runs, copy]), [Side("b", [copy])], _ABOUT, Design())
    (warning,) = content["warnings"]
    assert "copy has the same detections as " in warning and "good0: it counts" in warning
    nothing = []
    for name in "xy":
        write_test(tmp_path / name, {"detections.json": [], "results.json": {"AP": 0}})
        nothing.append(measure(open_run(str(tmp_path / name)), *world[1:]))
    assert comparison(Side("a", runs), [Side("b", nothing)], _ABOUT, Design())["warnings"] == []


def test_sides_with_the_same_folder_name_are_named_by_their_paths(world, tmp_path):
    paths = [str(tmp_path / side / "seed1") for side in "ab"]
    for path, name in zip(paths, ("good0", "bad0")):
        shutil.copytree(str(world[0] / name), path)
    content = _compare(world, tmp_path, *paths)
    assert [content["baseline"]["name"], content["candidates"][0]["name"]] == paths
    with pytest.raises(UserError, match="two runs are called seed1"):
        _compare(world, tmp_path, *paths, names=["seed1", "seed1"])
    twice = _compare(world, tmp_path, paths[0], paths[0])
    assert [twice["baseline"]["name"], twice["candidates"][0]["name"]] == [
        paths[0],
        f"{paths[0]} (2)",
    ]


def test_runs_on_different_data_sets_are_refused(world, tmp_path):
    write_test(tmp_path / "dog", {"detections.json": []}, "dogs_val")
    with pytest.raises(UserError, match=r"good0 was tested on cats_val, .*dog on dogs_val"):
        _compare(world, tmp_path, str(world[0] / "good0"), str(tmp_path / "dog"))
