"""Reading a sweep's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from squares import REPOSITORY

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.experiments.spec import read_spec

_SPECS = sorted((REPOSITORY / "configs" / "sweeps").glob("*.yaml"))
_DIGITS = str(REPOSITORY / "configs" / "digits" / "retinanet_R-36-tiny_256.yaml")


def _write(folder: Path, **changes) -> str:
    content = {
        "seeds": [1, 2],
        "variants": {
            "plain": {"config": _DIGITS},
            "half": {"config": _DIGITS, "overrides": {"LIBRA.LOSS_WEIGHTS.BBOX": 0.5}},
        },
        **changes,
    }
    path = folder / "spec.yaml"
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return str(path)


def test_runs_are_ordered_by_seed(tmp_path):
    spec = read_spec(_write(tmp_path, sizes=[128, 64]))
    assert [run.folder for run in spec.runs[:5]] == [
        "spec/data_128/plain/seed1", "spec/data_128/half/seed1", "spec/data_64/plain/seed1",
        "spec/data_64/half/seed1", "spec/data_128/plain/seed2",
    ]  # fmt: skip
    assert len(spec.runs) == 8
    assert spec.baseline == "plain"


def test_a_size_scales_the_longest_side_too(tmp_path):
    run = read_spec(_write(tmp_path, sizes=[320], overrides={"SOLVER.MAX_ITER": 7})).runs[1]
    config = configuration.load(run.config_file, run.overrides)
    assert (config.TRAIN.SCALES, config.TEST.SCALE) == ((320,), 320)
    assert (config.TRAIN.MAX_SIZE, config.TEST.MAX_SIZE) == (320, 320)
    assert (config.SOLVER.MAX_ITER, config.LIBRA.LOSS_WEIGHTS.BBOX) == (7, 0.5)
    assert config.RNG_SEED == 1


def test_a_size_keeps_the_ratio_of_testing_to_training(tmp_path):
    file = REPOSITORY / "configs/finetune/retinanet_EfficientNetLite0_320.yaml"
    variants = {"plain": {"config": str(file)}}
    run = read_spec(_write(tmp_path, sizes=[224], variants=variants)).runs[0]
    config = configuration.load(run.config_file, run.overrides)
    assert (config.TRAIN.SCALES, config.TRAIN.MAX_SIZE) == ((224,), 374)
    assert (config.TEST.SCALE, config.TEST.MAX_SIZE) == (258, 430)  # 368 and 613 at 320


def test_a_data_set_has_settings_of_its_own(tmp_path):
    variants = {
        "plain": {"config": str(REPOSITORY / "configs/{dataset}/retinanet_R-36-tiny_256.yaml")}
    }
    datasets = {"digits": {"SOLVER.MAX_ITER": 9}, "bccd": None}
    spec = read_spec(
        _write(tmp_path, variants=variants, datasets=datasets, overrides={"SOLVER.MAX_ITER": 5})
    )
    configs = [configuration.load(run.config_file, run.overrides) for run in spec.runs[:2]]
    assert [config.SOLVER.MAX_ITER for config in configs] == [9, 5]
    assert [config.TEST.DATASETS for config in configs] == [("digits_val",), ("bccd_val",)]


@pytest.mark.parametrize(
    "changes, wrong",
    [
        ({"seeds": None}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [True]}, "seeds"),
        ({"seeds": ["1"]}, "seeds"),
        ({"seeds": [[1], [1]]}, "seeds"),
        ({"sizes": [1.5]}, "sizes"),
        ({"datasets": ["bccd"]}, "datasets"),
        ({"datasets": {"../up": {}}}, "../up"),
        ({"datasets": {"bccd": 3}}, "bccd"),
        ({"group": "a/b"}, "a/b"),
        ({"variants": {}}, "variants"),
        ({"variants": {"a": {}}}, "variants.a"),
        ({"variants": {"a b": {"config": _DIGITS}}}, "a b"),
        ({"variants": {"a": {"config": _DIGITS, "seed": 1}}}, "variants.a"),
        ({"baseline": "nothing"}, "baseline"),
        ({"baseline": ["plain"]}, "baseline"),
        ({"overrides": {"RNG_SEED": 3}}, "RNG_SEED"),
        ({"overrides": {"OUTPUT_DIR": "elsewhere"}}, "OUTPUT_DIR"),
        ({"sizes": [64], "overrides": {"TEST.SCALE": 96}}, "TEST.SCALE"),
        ({"overrides": [1]}, "overrides"),
        ({"primary": "ap"}, "primary must be one of"),
        ({"primary": ["AP"]}, "primary must be one of"),
        ({"runs": 3}, "runs"),
    ],
)
def test_wrong_sweep_files_are_refused_in_one_line(tmp_path, changes, wrong):
    with pytest.raises(ConfigError) as caught:
        read_spec(_write(tmp_path, **changes))
    assert wrong in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_list_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_spec(str(tmp_path / "none.yaml"))
    path = tmp_path / "list.yaml"
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="must be a map"):
        read_spec(str(path))


@pytest.mark.parametrize("path", _SPECS, ids=lambda path: path.stem)
def test_variants_of_shipped_sweeps_differ_only_in_their_overrides(path):
    spec = read_spec(str(path))
    seen = {}
    for run in spec.runs:
        if run.seed != spec.runs[0].seed:  # reading a configuration takes 20 ms
            continue
        config = configuration.load(run.config_file, run.overrides)
        settings = configuration.dump_yaml(config.with_overrides(["OUTPUT_DIR", "same"]))
        # With folds, DATASETS of the same names stand for other images in each fold.
        assert seen.setdefault((settings, run.fold), run) is run
    assert len({run.folder for run in spec.runs}) == len(spec.runs)


def test_sweeps_of_a_group_have_equal_shared_runs():
    def settings(run):
        return configuration.load(run.config_file, [*run.overrides, "OUTPUT_DIR", "same"])

    seen = {}
    for path in _SPECS:
        for run in read_spec(str(path)).runs:
            first = seen.setdefault(run.folder, run)
            same_command = (run.config_file, run.overrides) == (first.config_file, first.overrides)
            assert same_command or settings(run) == settings(first)
