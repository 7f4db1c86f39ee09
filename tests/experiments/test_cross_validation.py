"""A sweep with folds: the split, its runs and the pooled report."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from squares import make_squares, write_tiny_config

from detectron_ext import config as configuration
from detectron_ext.commands.sweep import report, sweep
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import ConfigError, UserError
from detectron_ext.evaluation.coco_eval import match_detections, summarise
from detectron_ext.evaluation.intervals import paired_difference
from detectron_ext.experiments.folds import write_split
from detectron_ext.experiments.results import collect_results
from detectron_ext.experiments.spec import read_spec
from detectron_ext.experiments.sweep import Sweep


def _write_spec(folder, config, **changes):
    content = {
        "seeds": [5, 6],
        "folds": 3,
        "primary": "AP50",
        "overrides": {"SOLVER.MAX_ITER": 2},
        "variants": {
            "plain": {"config": config},
            "half": {"config": config, "overrides": {"LIBRA.LOSS_WEIGHTS.BBOX": 0.5}},
        },
        **changes,
    }
    path = folder / "cross.yaml"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The finished sweep: two variants, two seeds, three folds of 8 images of which 2 are equal."""
    folder = tmp_path_factory.mktemp("cross")
    config = str(write_tiny_config(folder))
    images = folder / "squares" / "images"
    shutil.copy(str(images / "2.png"), str(images / "7.png"))
    spec = _write_spec(folder, config)
    sweep(spec, str(folder / "results"))
    return folder, spec


def _split(folder):
    return json.loads((folder / "results/cross/data_3folds/split.json").read_text())


def test_every_image_is_tested_once_and_copies_are_tested_together(swept):
    folder, spec = swept
    split = _split(folder)
    assert sorted(image for fold in split["images"] for image in fold) == list(range(1, 9))
    assert [2, 7] in split["near_duplicates"]
    assert any({2, 7} <= set(fold) for fold in split["images"])
    for run in read_spec(spec).runs:
        config = configuration.load(
            run.config_file, [*run.overrides, *run.fold.overrides(str(folder / "results"))]
        )
        train, test = (
            CocoDataset(resolve(names[0], config)).image_ids()
            for names in (config.TRAIN.DATASETS, config.TEST.DATASETS)
        )
        assert test == sorted(split["images"][run.fold.number - 1])
        assert sorted(train + test) == list(range(1, 9))


def test_the_folders_of_runs_name_their_folds(swept):
    folder, spec = swept
    runs = read_spec(spec).runs
    assert [run.folder for run in runs[:3]] == [
        "cross/data/plain/seed5_fold1of3",
        "cross/data/half/seed5_fold1of3",
        "cross/data/plain/seed5_fold2of3",
    ]
    record = json.loads((folder / "results" / runs[2].folder / "record.json").read_text())
    assert record["fold"] == 2 and "data_fold2of3_test" in record["metrics"]
    assert not any(key.startswith("DATASETS_EXTRA.data_") for key in record["settings"])


def test_the_tests_of_all_folds_are_scored_together(swept):
    folder, spec = swept
    results = collect_results(read_spec(spec), str(folder / "results"), 20)
    (place,) = results["places"].values()
    assert len(place["runs"]) == 12 and len(place["pooled"]) == 4
    whole = json.loads((folder / "results/cross/data_3folds/all.json").read_text())
    found = []
    for number in (1, 2, 3):
        run = folder / f"results/cross/data/plain/seed6_fold{number}of3"
        (path,) = run.glob("test/*/*/detections.json")
        found += json.loads(path.read_text())
    entry = resolve("squares", configuration.load(str(folder / "tiny.yaml")))
    coco = CocoDataset(entry).coco  # the data set itself has the same ids
    assert {image["id"] for image in whole["images"]} == set(coco.imgs)
    pooled = [one for one in place["pooled"] if (one["variant"], one["seed"]) == ("plain", 6)]
    assert pooled[0]["scores"]["AP"] == pytest.approx(
        summarise(match_detections(coco, found))["AP"]
    )


def test_the_interval_is_over_seeds_and_folds(swept):
    folder, spec = swept
    (place,) = collect_results(read_spec(spec), str(folder / "results"), 20)["places"].values()
    (compared,) = place["comparisons"]
    assert (compared["num_images"], compared["seeds"]) == (8, [5, 6])
    assert compared["design"]["num_folds"] == 3 and compared["design"]["primary"] == "AP50"
    by_run = {
        (run["variant"], run["seed"], run["fold"]): run["scores"]["AP50"] for run in place["runs"]
    }
    sides = [
        [by_run[variant, seed, fold] for seed in (5, 6) for fold in (1, 2, 3)]
        for variant in ("plain", "half")
    ]
    (row,) = [row for row in compared["candidates"][0]["rows"] if row["metric"] == "AP50"]
    expected = paired_difference(*sides)
    assert row["over_trainings"]["counts"] == [6, 6]
    assert row["over_trainings"]["interval"] == expected.interval
    wider = paired_difference(*sides, overlap=1 / 2).interval
    assert row["over_trainings"]["interval_of_other_images"] == wider


def test_the_report_has_pooled_scores(swept):
    folder, spec = swept
    report(spec, str(folder / "results"), str(folder / "page.md"))
    text = (folder / "page.md").read_text()
    assert "**data**, 8 images of data_3folds" in text and "| plain (2) |" in text
    assert "| mean of folds | 95 % over seeds and folds | and over other images |" in text
    assert "**AP50**" in text and "Over seeds and folds: paired t interval." in text


def test_a_seed_whose_folds_are_not_all_done_is_not_compared(swept, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(str(swept[0] / "results"), str(results))
    shutil.rmtree(str(results / "cross/data/half/seed6_fold2of3"))
    found = collect_results(read_spec(swept[1]), str(results), 5)
    assert found["missing"] == ["cross/data/half/seed6_fold2of3"]
    (place,) = found["places"].values()
    assert place["comparisons"][0]["seeds"] == [5] and len(place["pooled"]) == 3


def test_a_moved_results_folder_is_continued(swept, tmp_path):
    shutil.copytree(str(swept[0] / "results"), str(tmp_path / "moved"))
    plan = Sweep(read_spec(swept[1]).runs, str(tmp_path / "moved"))
    assert {plan.state(run) for run in plan.runs} == {"done"}


def test_a_dry_run_makes_no_split(swept, tmp_path, capsys):
    sweep(swept[1], str(tmp_path / "nothing"), dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and not (tmp_path / "nothing").exists()
    assert "TRAIN.DATASETS '('\"'\"'data_fold1of3_train'\"'\"',)'" in lines[0]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seeds": [5], "folds": {"count": 3, "seed": 9}}, "was split with other seed"),
        ({"seeds": [5, 6, 7], "folds": {"count": 3, "datasets": ["b"]}}, "unknown data set b"),
    ],
)
def test_another_split_in_the_same_folder_is_refused(swept, tmp_path, changes, message):
    results = tmp_path / "results"
    shutil.copytree(str(swept[0] / "results/cross/data_3folds"), str(results / "cross/data_3folds"))
    spec = _write_spec(tmp_path, str(swept[0] / "tiny.yaml"), **changes)
    with pytest.raises(UserError, match=f"variant plain: .*{message}"):
        sweep(spec, str(results))


def test_changed_annotations_are_refused(swept, tmp_path):
    spec = read_spec(swept[1])
    run = spec.runs[0]
    config = configuration.load(run.config_file, run.overrides)
    results = tmp_path / "results"
    shutil.copytree(str(swept[0] / "results/cross/data_3folds"), str(results / "cross/data_3folds"))
    write_split(str(results), run.fold, ["squares"], config)
    entry = make_squares(tmp_path / "squares", 8, seed=3)
    pairs = [
        part for key, value in entry.items() for part in (f"DATASETS_EXTRA.squares.{key}", value)
    ]
    with pytest.raises(UserError, match="was split with other annotations: choose another"):
        write_split(str(results), run.fold, ["squares"], config.with_overrides(pairs))
    (results / "cross/data_3folds/split.json").write_text("{")
    with pytest.raises(UserError, match=r"split.json is damaged: remove it"):
        write_split(str(results), run.fold, ["squares"], config)


def test_data_sets_are_joined_and_a_class_that_a_fold_lacks_is_named(swept, tmp_path, caplog):
    """Both data sets have the class star, and one image of the first shows it."""
    pairs = []
    for name, count in (("squares", 8), ("more", 3)):
        entry = make_squares(tmp_path / name, count, seed=count)
        pairs += [part for k in entry for part in (f"DATASETS_EXTRA.{name}.{k}", entry[k])]
        path = Path(entry["ann_fn"])
        content = json.loads(path.read_text())
        content["categories"].append({"id": 3, "name": "star"})
        content["annotations"][0]["category_id"] = 3 if name == "squares" else 1
        path.write_text(json.dumps(content))
    config = str(swept[0] / "tiny.yaml")
    folds = {"count": 2, "datasets": ["squares", "{dataset}"], "scored": [2]}
    spec = read_spec(_write_spec(tmp_path, config, folds=folds, datasets={"more": {}}))
    (fold,) = {run.fold for run in spec.runs}
    assert fold.number == 2
    caplog.set_level("INFO", "detectron_ext")
    settings = configuration.load(config, pairs)
    write_split(str(tmp_path), fold, fold.source_datasets(settings), settings)
    every = json.loads((tmp_path / fold.folder / "all.json").read_text())
    assert len(every["images"]) == 11 and os.path.isabs(every["images"][10]["file_name"])
    assert "11 images in 2 folds" in caplog.text
    lacking = 2 if 1 in _images(tmp_path / fold.folder, 1) else 1
    assert f"class star is in no test image of fold {lacking}: " in caplog.text
    assert "class disc is in no" not in caplog.text


def _images(folder, number):
    content = json.loads((folder / f"fold{number}_test.json").read_text())
    return {image["id"] for image in content["images"]}


def test_variants_on_different_data_sets_cannot_share_folds(swept, tmp_path):
    config = str(swept[0] / "tiny.yaml")
    variants = {
        "plain": {"config": config},
        "other": {"config": config, "overrides": {"TRAIN.DATASETS": ["digits_train"]}},
    }
    spec = read_spec(_write_spec(tmp_path, config, variants=variants))
    with pytest.raises(
        ConfigError, match="variant plain would split squares .* other digits_train"
    ):
        Sweep(spec.runs, str(tmp_path / "results"))
    spec = read_spec(_write_spec(tmp_path, config, overrides={"TRAIN.PROPOSAL_FILES": ["p.pkl"]}))
    with pytest.raises(ConfigError, match="folds cannot be used with TRAIN.PROPOSAL_FILES"):
        Sweep(spec.runs, str(tmp_path / "results"))


@pytest.mark.parametrize(
    "folds, wrong",
    [
        (1, "folds must be a number of at least 2"),
        (True, "folds must be"),
        ("5", "folds must be"),
        ({"number": 5}, "folds must be"),
        ({"count": 3, "scored": [0]}, "folds.scored must be a list of numbers from 1 to 3"),
        ({"count": 3, "scored": []}, "folds.scored must be"),
        ({"count": 3, "scored": [1, 1]}, "folds.scored must be a list of different"),
        ({"count": 3, "datasets": []}, "folds.datasets must be"),
        ({"count": 3, "datasets": "a"}, "folds.datasets must be"),
        ({"count": 3, "datasets": ["a", "a"]}, "folds.datasets must be"),
        ({"count": 3, "seed": -1}, "folds.seed must be"),
    ],
)
def test_wrong_folds_are_refused(tmp_path, folds, wrong):
    with pytest.raises(ConfigError, match=wrong):
        read_spec(_write_spec(tmp_path, "nothing.yaml", folds=folds))
