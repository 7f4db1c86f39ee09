from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from squares import REPOSITORY

from detectron_ext.commands.train_and_test import test as run_test
from detectron_ext.commands.train_and_test import train_and_test
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.engine import statistics, training_loop
from detectron_ext.engine import train as training
from detectron_ext.engine.checkpoints import newest_checkpoint, remove_older, way_back
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import UserError, WeightsError
from detectron_ext.output_lock import locked_folder

_LIBRA = [
    "LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True",
    "LIBRA.RETINANET_SAMPLER.MODE", "select",
]  # fmt: skip
_REWEIGHT = ["LIBRA.RETINANET_SAMPLER.MODE", "reweight"]


def _assert_same(path, other):
    first, second = read_weights(path).blobs, read_weights(other).blobs
    assert first.keys() == second.keys()
    for name, blob in first.items():
        np.testing.assert_array_equal(blob, second[name], err_msg=name)


@pytest.mark.parametrize("libra", [[], _LIBRA], ids=["plain", "libra"])
def test_a_seed_determines_the_weights_also_after_resuming(tiny_config, tmp_path, libra):
    first = training.train(tiny_config(*libra))
    again = training.train(tiny_config(*libra, "OUTPUT_DIR", str(tmp_path / "again")))
    _assert_same(first, again)

    folder = os.path.dirname(first)
    assert os.path.exists(os.path.join(folder, "model_iter2.pkl"))
    resumed = tmp_path / "resumed"
    shutil.copytree(folder, str(resumed / "train" / "squares" / "retinanet"))
    os.remove(str(resumed / "train" / "squares" / "retinanet" / "model_final.pkl"))
    _assert_same(first, training.train(tiny_config(*libra, "OUTPUT_DIR", str(resumed))))

    other = training.train(tiny_config(*libra, "OUTPUT_DIR", str(tmp_path / "o"), "RNG_SEED", "4"))
    with pytest.raises(AssertionError):
        _assert_same(first, other)


def test_finished_training_is_not_repeated(tiny_config):
    config = tiny_config("SOLVER.MAX_ITER", "1")
    final = training.train(config)
    before = os.stat(final).st_mtime_ns
    assert training.train(config) == final
    assert os.stat(final).st_mtime_ns == before


def test_statistics_file_has_every_logged_iteration_once(tiny_config):
    config = tiny_config("LIBRA.LOG_PERIOD", "2")
    folder = os.path.dirname(training.train(config))
    os.remove(os.path.join(folder, "model_final.pkl"))
    training.train(config)  # resumes at iteration 3
    with open(os.path.join(folder, "stats.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    assert [line["iter"] for line in lines] == [0, 2, 4, 5]
    losses = [line[k] for line in lines for k in line if k.startswith(("fl_", "retnet_loss"))]
    assert np.isfinite(losses).all() and len(losses) == 4 * 10
    np.testing.assert_allclose(
        lines[0]["loss"],
        sum(v for k, v in lines[0].items() if k.startswith(("fl_", "retnet_loss"))),
        rtol=1e-5,
    )


def test_times_in_the_log_of_a_resumed_run_have_the_right_sum(tiny_config, tmp_path, monkeypatch):
    """The checkpoint is not at the end of a log period. Its line does not change the weights."""
    seconds = 0
    step = training_loop.step

    def step_of_a_second(*arguments, **keywords):
        nonlocal seconds
        seconds += 1
        if seconds == 5:
            raise MemoryError("killed")
        return step(*arguments, **keywords)

    clock = SimpleNamespace(perf_counter=lambda: seconds, process_time=lambda: 2 * seconds)
    monkeypatch.setattr(statistics, "time", clock)
    monkeypatch.setattr(training_loop, "step", step_of_a_second)
    config = tiny_config()
    with pytest.raises(MemoryError):
        training.train(config)
    final = training.train(config)  # resumes at iteration 3
    with open(os.path.join(os.path.dirname(final), "stats.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    assert [line["iter"] for line in lines] == [0, 2, 5]
    assert [line["seconds"] for line in lines] == [1, 2, 3]
    assert [line["cpu_seconds"] for line in lines] == [2, 4, 6]
    unlogged = ["TRAIN.SNAPSHOT_ITERS", "1000", "OUTPUT_DIR", str(tmp_path / "unlogged")]
    _assert_same(final, training.train(tiny_config(*unlogged)))


def test_a_training_says_how_long_it_waited_for_images(tiny_config, caplog):
    with caplog.at_level(logging.INFO):
        training.train(tiny_config("SOLVER.MAX_ITER", "2"))
    assert re.search(r"2 iterations in \d+ s, \d+ % of them waiting for images$", caplog.text, re.M)


@pytest.mark.parametrize(
    ("steps", "waited", "end"),
    [(100, 5.0, "5 % of them waiting for images"), (99, 90.0, "90 % of them waiting for images"),
     (100, 5.1, "(DATA_LOADER.NUM_THREADS)")],
)  # fmt: skip
def test_a_long_wait_for_images_names_the_key(steps, waited, end):
    text = training_loop.time_in_words(steps, 100.0, waited)
    assert text.startswith(f"{steps} iterations in 100 s, ") and text.endswith(end)


def test_a_damaged_checkpoint_is_skipped(tiny_config, tmp_path):
    folder = tmp_path / "checkpoints"
    write_weights(str(folder / "model_iter2.pkl"), Weights({"a": np.zeros(1)}, "", None))
    (folder / "model_iter5.pkl").write_bytes(b"\x80\x02cut")
    found = newest_checkpoint(str(folder))
    assert found.iteration == 2 and found.path.endswith("model_iter2.pkl")


def _interrupt_after(monkeypatch, config, last, advice):
    """Train until a signal in iteration ``last``."""
    step = training_loop.step

    def interrupted_step(model, nets, minibatches, iteration, first):
        if iteration == last:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(model, nets, minibatches, iteration, first)

    with monkeypatch.context() as patched:
        patched.setattr(training_loop, "step", interrupted_step)
        with pytest.raises(UserError, match=rf"model_iter{last}.pkl; {advice} resumes from there"):
            training.train(config)


def test_a_signal_saves_a_checkpoint_and_names_it(tiny_config, monkeypatch):
    config = tiny_config("TRAIN.SNAPSHOT_ITERS", "100")
    _interrupt_after(monkeypatch, config, 1, "the same command")
    resumed = training.train(config)
    shutil.move(resumed, resumed + ".kept")
    os.remove(resumed.replace("final", "iter1"))
    training.train(config)
    _assert_same(resumed, resumed + ".kept")


def test_a_restarted_run_is_resumed_without_the_earlier_run(tiny_config, tmp_path, monkeypatch):
    anew = ["TRAIN.AUTO_RESUME", "False"]
    other = ["RNG_SEED", "4", "LIBRA.LOG_PERIOD", "2"]
    _interrupt_after(monkeypatch, tiny_config(), 4, "the same command")
    advice = "the same command without TRAIN.AUTO_RESUME False"
    _interrupt_after(monkeypatch, tiny_config(*other, *anew), 1, advice)
    final = training.train(tiny_config(*other))
    straight = tiny_config(*other, "OUTPUT_DIR", str(tmp_path / "straight"))
    _assert_same(final, training.train(straight))
    folder = os.path.dirname(final)
    with open(os.path.join(folder, "stats.jsonl")) as file:
        assert [json.loads(line)["iter"] for line in file] == [0, 1, 2, 4, 5]
    earlier = {"model_iter2.pkl", "model_iter4.pkl", "stats.jsonl"}
    assert set(os.listdir(os.path.join(folder, "earlier_1"))) == earlier


def test_finished_weights_are_moved_when_training_restarts(tiny_config, monkeypatch):
    short = ["SOLVER.MAX_ITER", "2"]
    final = training.train(tiny_config(*short))
    anew = tiny_config(*short, "RNG_SEED", "4", "TRAIN.AUTO_RESUME", "False")
    _interrupt_after(monkeypatch, anew, 0, "the same command without TRAIN.AUTO_RESUME False")
    earlier = os.path.join(os.path.dirname(final), "earlier_1")
    assert set(os.listdir(earlier)) == {"model_final.pkl", "stats.jsonl"}
    training.train(tiny_config(*short, "RNG_SEED", "4"))
    training.train(anew)
    assert set(os.listdir(earlier.replace("_1", "_2"))) >= {"model_iter0.pkl", "model_final.pkl"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_does_not_interrupt_writing_the_final_weights(
    tiny_config, tmp_path, monkeypatch, number
):
    def stop(*_):
        raise AssertionError("stopped in the middle of the final weights")

    def save(model, path, classes, data):
        os.kill(os.getpid(), number)
        write(model, path, classes, data)

    write = training.save_parameters
    before = signal.signal(number, stop)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(training, "save_parameters", save)
            with pytest.raises(UserError, match="interrupted: saved .*model_final.pkl; the same"):
                training.train(tiny_config("SOLVER.MAX_ITER", "1"))
    finally:
        signal.signal(number, before)
    straight = ["SOLVER.MAX_ITER", "1", "OUTPUT_DIR", str(tmp_path / "straight")]
    final = training.train(tiny_config("SOLVER.MAX_ITER", "1"))
    _assert_same(final, training.train(tiny_config(*straight)))


def test_the_files_of_a_killed_save_are_removed(tiny_config, tmp_path):
    folder = tmp_path / "output" / "train" / "squares" / "retinanet"
    folder.mkdir(parents=True)
    code = (
        "import os, sys; from detectron_ext.output_files import replaced_file\n"
        "with replaced_file(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(folder / "model_final.pkl")], cwd=str(REPOSITORY)
    )
    assert len(os.listdir(folder)) == 1
    (folder / ".notes.tmp").write_text("a user's")
    training.train(tiny_config("SOLVER.MAX_ITER", "1"))
    assert set(os.listdir(folder)) == {".notes.tmp", "model_final.pkl", "stats.jsonl"}


def test_error_of_a_loss_that_is_not_finite_names_the_learning_rate(tiny_config):
    ruin = ["SOLVER.BASE_LR", "1e30", "SOLVER.WARM_UP_ITERS", "0"]
    with pytest.raises(UserError, match="BASE_LR.*WARM_UP_ITERS.$"):
        training.train(tiny_config(*ruin))
    # With a checkpoint of ruined weights, a lower rate cannot help.
    folder = os.path.join(tiny_config().OUTPUT_DIR, "train", "squares", "retinanet")
    os.makedirs(folder, exist_ok=True)
    path = training.train(tiny_config("SOLVER.MAX_ITER", "1", "OUTPUT_DIR", folder + "/1"))
    shutil.move(path, os.path.join(folder, "model_iter0.pkl"))
    advice = "model_iter0.pkl is ruined already, remove it to start anew"
    with pytest.raises(UserError, match=advice):
        training.train(tiny_config(*ruin))


def test_the_way_back_names_the_checkpoint_before(tmp_path):
    for iteration in (9, 99):
        write_weights(str(tmp_path / f"model_iter{iteration}.pkl"), Weights({}, None, None))
    advice = "model_iter99.pkl is ruined already, remove it to resume from model_iter9.pkl"
    assert advice in way_back(str(tmp_path))
    assert way_back(str(tmp_path / "none")) == ""


def test_damaged_final_weights_say_what_to_remove(tiny_config):
    config = tiny_config()
    folder = os.path.join(config.OUTPUT_DIR, "train", "squares", "retinanet")
    os.makedirs(folder)
    with open(os.path.join(folder, "model_final.pkl"), "wb") as file:
        file.write(b"\x80\x02cut")
    message = f"damaged.*; remove {folder}/model_final.pkl to train on from the newest checkpoint"
    with pytest.raises(WeightsError, match=message):
        training.train(config)


def test_momenta_stay_finite_before_the_first_step(tiny_config):
    any_jump = ["SOLVER.SCALE_MOMENTUM_THRESHOLD", "0.0", "SOLVER.MAX_ITER", "2"]
    blobs = read_weights(training.train(tiny_config(*any_jump))).blobs
    assert all(np.isfinite(blob).all() for blob in blobs.values())


def test_error_of_weights_that_do_not_fit_lists_each_mismatch(tiny_config, tmp_path):
    final = training.train(tiny_config("SOLVER.MAX_ITER", "1"))
    wider = tiny_config("FPN.DIM", "96", "TRAIN.WEIGHTS", final, "OUTPUT_DIR", str(tmp_path / "w"))
    with pytest.raises(WeightsError, match="fpn_6_w.*; .*retnet_cls_pred_fpn3_w") as caught:
        training.train(wider)
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="bfp_g_w"):
        run_test(tiny_config("LIBRA.BFP.ON", "True"), final)


@pytest.mark.parametrize(
    "weights, fault", [("https://host/R-50.pkl", "R-50.pkl"), ("/no/such.pkl", "not found")]
)
def test_missing_weights_are_named(tiny_config, weights, fault):
    with pytest.raises(WeightsError, match=fault):
        training.train(tiny_config("TRAIN.WEIGHTS", weights))


def test_unused_blobs_are_preserved(tiny_config, tmp_path):
    path = str(tmp_path / "start.pkl")
    extra = {"fc1000_w": np.ones((2, 2), np.float32), "conv1_w": np.ones((16, 3, 7, 7), np.float32)}
    write_weights(path, Weights(extra, "", None))
    config = tiny_config("TRAIN.WEIGHTS", path, "SOLVER.MAX_ITER", "1", "SOLVER.BASE_LR", "0.0")
    blobs = read_weights(training.train(config)).blobs
    assert (blobs["fc1000_w"] == 1).all()
    assert (blobs["conv1_w"] == 1).all()


def test_a_data_set_to_test_is_read_once(tiny_config, monkeypatch):
    opened = []

    def open_dataset(entry):
        opened.append(entry.name)
        return CocoDataset(entry)

    monkeypatch.setattr("detectron_ext.commands.train_and_test.CocoDataset", open_dataset)
    train_and_test(tiny_config("SOLVER.MAX_ITER", "1"))
    assert opened == ["squares"]


@pytest.mark.parametrize("libra", [[], _LIBRA, _REWEIGHT], ids=["plain", "libra", "reweight"])
def test_a_model_learns_eight_images_by_heart(tiny_config, libra):
    config = tiny_config(
        *libra, "SOLVER.MAX_ITER", "120", "SOLVER.BASE_LR", "0.02", "SOLVER.WARM_UP_ITERS", "20",
        "TRAIN.SNAPSHOT_ITERS", "1000",
    )  # fmt: skip
    results = train_and_test(config)["squares"]
    assert results["AP50"] > 0.95
    folder = os.path.join(config.OUTPUT_DIR, "test", "squares", "retinanet")
    with open(os.path.join(folder, "results.json")) as file:
        written = json.load(file)
    assert written["AP50"] == results["AP50"]
    assert set(written["per_class"]) == {"square", "disc"}
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl"} <= written.keys()


def test_a_second_run_in_one_folder_is_refused(tiny_config):
    config = tiny_config("SOLVER.MAX_ITER", "1")
    folder = os.path.join(config.OUTPUT_DIR, "train", "squares", "retinanet")
    os.makedirs(folder)
    with locked_folder(folder):
        with pytest.raises(UserError, match=f"{folder} is in use by process {os.getpid()}"):
            training.train(config)
        assert os.listdir(folder) == [".lock"]
    final = training.train(config)
    assert set(os.listdir(folder)) == {"model_final.pkl", "stats.jsonl"}
    folder = os.path.join(config.OUTPUT_DIR, "test", "squares", "retinanet")
    os.makedirs(folder)
    with locked_folder(folder):
        with pytest.raises(UserError, match=f"{folder} is in use"):
            run_test(config, final)
        assert os.listdir(folder) == [".lock"]
    with locked_folder(folder, shared=True):  # as another part of the test would
        assert run_test(config, final, (0, 2)) == {}


def test_a_run_that_another_one_has_overtaken_is_refused(tiny_config, monkeypatch):
    """Both start in a folder that does not exist; the other one ends while this one reads data."""
    config = tiny_config("SOLVER.MAX_ITER", "1")
    folder = os.path.join(config.OUTPUT_DIR, "train", "squares", "retinanet")
    initialise = training._initialise

    def overtaken(*arguments):
        write_weights(os.path.join(folder, "model_final.pkl"), Weights({}, None, None))
        initialise(*arguments)

    monkeypatch.setattr(training, "_initialise", overtaken)
    with pytest.raises(UserError, match="meanwhile: repeat the command"):
        training.train(config)
    assert os.listdir(folder) == ["model_final.pkl"]


def test_a_flipped_bit_in_the_newest_checkpoint_is_named(tmp_path, caplog):
    for iteration in (2, 5):
        path = tmp_path / f"model_iter{iteration}.pkl"
        write_weights(str(path), Weights({"a": np.zeros(99, np.float32)}, "", None))
    content = bytearray(path.read_bytes())
    content[content.index(b"\0" * 99) + 50] ^= 4  # in the numbers
    path.write_bytes(bytes(content))
    assert newest_checkpoint(str(tmp_path)).iteration == 2
    assert "skipped a damaged checkpoint" in caplog.text and "model_iter5.pkl" in caplog.text


@pytest.mark.parametrize("keep, kept", [(0, [0, 5, 12]), (1, [12]), (2, [5, 12]), (9, [0, 5, 12])])
def test_checkpoints_beyond_the_newest_are_removed(tmp_path, keep, kept):
    names = [f"model_iter{iteration}.pkl" for iteration in (12, 5, 0)]
    for name in [*names, "model_final.pkl", "model_iter3.txt"]:
        (tmp_path / name).write_text("")
    removed = remove_older(str(tmp_path), keep)
    left = [f"model_iter{iteration}.pkl" for iteration in kept]
    assert sorted(map(os.path.basename, removed)) == sorted(set(names) - set(left))
    assert set(os.listdir(tmp_path)) == {*left, "model_final.pkl", "model_iter3.txt"}


def test_a_training_keeps_as_many_checkpoints_as_asked(tiny_config, caplog):
    settings = ["SOLVER.MAX_ITER", "4", "TRAIN.SNAPSHOT_ITERS", "1"]
    with caplog.at_level(logging.INFO):
        final = training.train(tiny_config(*settings, "LIBRA.TRAIN.KEEP_CHECKPOINTS", "2"))
    names = {"model_iter1.pkl", "model_iter2.pkl", "model_final.pkl", "stats.jsonl"}
    assert set(os.listdir(os.path.dirname(final))) == names
    assert "removed model_iter0.pkl: LIBRA.TRAIN.KEEP_CHECKPOINTS keeps 2" in caplog.text
