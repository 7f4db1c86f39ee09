from __future__ import annotations

import errno
import json
import os
import shutil
import time

import pytest
from tool_runner import failure, run_tool

from detectron_ext.engine.weights_file import read_weights, write_weights


def _read(path):
    return json.loads(path.read_text())


def test_training_reports_saves_and_tests(first_run, workplace):
    lines = [line for line in first_run.out.splitlines() if line.startswith("json_stats: ")]
    stats = [json.loads(line[len("json_stats: ") :]) for line in lines]
    assert [line["iter"] for line in stats] == [0, 1]
    assert {"loss", "lr", "eta", "fl_fpn3", "retnet_loss_bbox_fpn3"} <= stats[0].keys()
    assert "iteration 2/2" in first_run.err and "AP50" in first_run.err
    assert (workplace.training / "model_iter0.pkl").exists()
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "per_class"} <= _read(
        workplace.testing / "results.json"
    ).keys()
    assert read_weights(str(workplace.weights)).classes == ["__background__", "square", "disc"]


def test_training_resumes_and_can_skip_the_test(tool, workplace, tmp_path):
    shutil.copytree(str(workplace.folder / "output" / "train"), str(tmp_path / "train"))
    outcome = tool(
        "train_net", "--skip-test", "--multi-gpu-testing", "OUTPUT_DIR", tmp_path,
        "SOLVER.MAX_ITER", 2,
    )  # fmt: skip
    assert outcome.status == 0
    assert "model_iter0.pkl at iteration 1" in outcome.err
    assert '"iter": 0' not in outcome.out and '"iter": 1' in outcome.out
    assert not (tmp_path / "test").exists()


def test_testing_gives_what_training_reported(tool, workplace, tmp_path):
    outcome = tool("test_net", "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR", tmp_path)
    assert outcome.status == 0
    for name in ("results.json", "detections.json"):
        again = tmp_path / "test" / "squares" / "retinanet" / name
        assert _read(again) == _read(workplace.testing / name)


def test_a_range_of_images_is_drawn_and_kept_but_not_scored(tool, workplace, tmp_path):
    outcome = tool(
        "test_net", "--range", 2, 5, "--vis", "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR",
        tmp_path, "TEST.DETECTIONS_PER_IM", 3,
    )  # fmt: skip
    assert outcome.status == 0
    folder = tmp_path / "test" / "squares" / "retinanet"
    assert str(folder / "detections_range_2_5.json") in outcome.err
    assert {found["image_id"] for found in _read(folder / "detections_range_2_5.json")} == {3, 4, 5}
    assert {path.name for path in (folder / "vis").iterdir()} == {"3.png", "4.png", "5.png"}
    assert not (folder / "results.json").exists()


@pytest.mark.parametrize("tool_name", ["test_net", "train_net"])
def test_a_data_set_without_annotations_is_tested_but_not_scored(
    tool, workplace, tmp_path, tool_name
):
    entry = {"im_dir": str(workplace.images), "ann_fn": str(tmp_path / "unknown.json")}
    content = _read(workplace.folder / "squares" / "annotations.json")
    del content["annotations"]
    (tmp_path / "unknown.json").write_text(json.dumps(content))
    outcome = tool(
        tool_name, "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 1,
        "DATASETS_EXTRA.unknown", entry, "TEST.DATASETS", "('unknown', 'squares')",
        "TEST.DETECTIONS_PER_IM", 3,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "unknown: not scored, because" in outcome.err and "squares: AP" in outcome.err
    folder = tmp_path / "test" / "unknown" / "retinanet"
    assert {path.name for path in folder.iterdir()} == {"detections.json"}
    assert (tmp_path / "test" / "squares" / "retinanet" / "results.json").exists()
    message = failure(
        run_tool(
            "compare_runs", "--baseline", folder, "--candidate", folder, "--annotations",
            entry["ann_fn"], "--output-dir", tmp_path / "comparison",
        )
    )  # fmt: skip
    assert "unknown.json: has no 'annotations' to score with" in message


@pytest.mark.parametrize("start, end", [(5, 2), (8, 9), (-1, 3), (2, 2)])
def test_a_range_without_images_is_an_error(tool, workplace, start, end):
    message = failure(tool("test_net", "--range", start, end, "TEST.WEIGHTS", workplace.weights))
    assert f"range {start} {end}" in message and "images 0 to 7" in message


def test_waiting_ends_when_the_weights_are_there(tool, workplace, tmp_path, monkeypatch):
    weights = tmp_path / "late.pkl"
    monkeypatch.setattr(time, "sleep", lambda _: shutil.copy(str(workplace.weights), str(weights)))
    overrides = ("TEST.WEIGHTS", weights, "OUTPUT_DIR", tmp_path, "--range", 0, 1)
    outcome = tool("test_net", "--wait", "True", *overrides)
    assert outcome.status == 0 and f"waiting for {weights}" in outcome.err
    outcome = tool("test_net", *overrides, "--wait")
    assert outcome.status == 0 and "waiting for" not in outcome.err


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (("--wait",), "TEST.WEIGHTS"),
        (("--wait", "True", "TEST.WEIGHTS", "https://host/w.pkl"), "TEST.WEIGHTS"),
        (("--wait", "TEST.WEIGHTS", "w.pkl"), "--wait True TEST.WEIGHTS"),
    ],
)
def test_waiting_without_a_file_to_wait_for_is_an_error(tool, arguments, fault):
    assert fault in failure(tool("test_net", *arguments))


def test_a_full_disk_leaves_the_last_checkpoint(tool, workplace, tmp_path, monkeypatch):
    shutil.copytree(str(workplace.folder / "output" / "train"), str(tmp_path / "train"))
    checkpoint = tmp_path / "train" / "squares" / "retinanet" / "model_iter0.pkl"
    before = checkpoint.read_bytes()
    arguments = (
        "train_net", "--skip-test", "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 3,
        "TRAIN.SNAPSHOT_ITERS", 2,
    )  # fmt: skip

    def has_room_for_the_log(descriptor):
        if os.fstat(descriptor).st_size > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", has_room_for_the_log)
        message = failure(tool(*arguments))
    assert "model_iter1.pkl" in message and "No space left" in message
    assert checkpoint.read_bytes() == before
    names = {path.name for path in checkpoint.parent.iterdir()}
    assert names == {"model_iter0.pkl", "stats.jsonl"}
    assert tool(*arguments).status == 0


def test_statistics_that_cannot_be_written_are_named(tool, workplace, tmp_path):
    path = tmp_path / "train" / "squares" / "retinanet" / "stats.jsonl"
    path.mkdir(parents=True)
    message = failure(tool("train_net", "--skip-test", "OUTPUT_DIR", tmp_path))
    assert str(path) in message


def test_a_statistics_line_cut_short_by_a_crash_is_dropped(tool, workplace, tmp_path):
    shutil.copytree(str(workplace.folder / "output" / "train"), str(tmp_path / "train"))
    path = tmp_path / "train" / "squares" / "retinanet" / "stats.jsonl"
    path.write_text(path.read_text().splitlines()[0] + '\n{"iter": 1, "lo')
    arguments = ("--skip-test", "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2)
    assert tool("train_net", *arguments).status == 0
    assert _logged_iterations(path) == [0, 1]


def _logged_iterations(path):
    return [json.loads(line)["iter"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("log_period", [1, 20])
def test_no_iteration_is_lost_if_an_image_becomes_unreadable(
    tool, workplace, tmp_path, monkeypatch, log_period
):
    from detectron_ext.data import minibatch
    from detectron_ext.engine.training_data import TrainingMinibatches

    make = TrainingMinibatches.__call__

    def goes_bad(self, number):
        if number == 2:
            monkeypatch.setattr(minibatch.transforms, "read_image", _undecodable)
        return make(self, number)

    def _undecodable(record, deep):
        raise minibatch.DatasetError(f"image {record.path} is not an image")

    arguments = (
        "train_net", "--skip-test", "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 4,
        "DATA_LOADER.NUM_THREADS", 1, "LIBRA.LOG_PERIOD", log_period,
    )  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(TrainingMinibatches, "__call__", goes_bad)
        message = failure(tool(*arguments))
    assert str(workplace.images) in message and "SKIP_BAD_IMAGES" in message
    monkeypatch.undo()
    log = tmp_path / "train" / "squares" / "retinanet" / "stats.jsonl"
    assert _logged_iterations(log) == [0, 1]
    assert "model_iter1.pkl at iteration 2" in tool(*arguments).err
    assert _logged_iterations(log) == [0, 1, 2, 3]


def test_the_order_of_classes_is_said_where_weights_hold_no_names(tool, workplace, tmp_path):
    weights = str(tmp_path / "bare.pkl")
    write_weights(weights, read_weights(str(workplace.weights))._replace(classes=None))
    outcome = tool("test_net", "TEST.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "out")
    assert outcome.status == 0
    assert f"{weights} holds no class names: its class 1 is taken for the first of" in outcome.err
