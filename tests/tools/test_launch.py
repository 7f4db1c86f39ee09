"""Several processes train one model: they follow one process, end together, and resume.

Each training here is of processes of its own, started by tools/launch.py, or one by one as on two
machines that share a folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from squares import REPOSITORY, write_tiny_config, write_tiny_rcnn_config
from tool_runner import failure, run_tool

from detectron_ext.engine.weights_file import read_weights

# One image in each process gives the images of one process with two. The rate is low: at the usual
# one the tiny network turns the last bits of a sum into other losses within a few iterations.
_SETTINGS = ["TRAIN.ASPECT_GROUPING", "False", "SOLVER.BASE_LR", "0.00001", "LIBRA.LOG_PERIOD", "1"]
_LIBRA = ["LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True"]
# All anchors and regions are trained. Otherwise each process draws its own.
_NO_DRAWS = [
    "TRAIN.RPN_BATCH_SIZE_PER_IM", "100000", "TRAIN.RPN_FG_FRACTION", "1.0",
    "TRAIN.BATCH_SIZE_PER_IM", "4000", "TRAIN.FG_FRACTION", "1.0",
    "TRAIN.RPN_PRE_NMS_TOP_N", "100000", "TRAIN.RPN_POST_NMS_TOP_N", "10000",
]  # fmt: skip
_MINUTES = 240.0  # seconds that any of these trainings may take


def _start(program: str, *arguments) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tools" / program), *map(str, arguments)],
        cwd=str(REPOSITORY), env=environment, start_new_session=True, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def _train(cfg: Path, *arguments, iterations: int = 6) -> list:
    limit = ["SOLVER.MAX_ITER", iterations]
    return ["--cfg", cfg, "--skip-test", *_SETTINGS, *limit, *arguments]


def _launch(cfg: Path, *settings, count: int = 2, iterations: int = 6) -> subprocess.Popen:
    train = _train(cfg, *settings, "TRAIN.IMS_PER_BATCH", 1, iterations=iterations)
    return _start("launch.py", "-n", count, "--", "tools/train_net.py", *train)


def _ended(process: subprocess.Popen) -> tuple[int, str]:
    """Return the exit status and standard error of a process."""
    _, errors = process.communicate(timeout=_MINUTES)
    return process.returncode, errors


def _messages(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith("error: ")]


def _run_folder(output: Path) -> Path:
    return next((output / "train" / "squares").iterdir())


def _losses(output: Path) -> list[dict]:
    text = (_run_folder(output) / "stats.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if "loss" in k or "fl_" in k} for line in lines]


def _blobs(output: Path) -> dict:
    return read_weights(str(_run_folder(output) / "model_final.pkl")).blobs


def _wait_for(path: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + _MINUTES
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("write", "settings"),
    [
        (write_tiny_config, []),
        (write_tiny_config, [*_LIBRA, "LIBRA.CLIP_GRADIENTS", "1.0"]),
        (write_tiny_rcnn_config, _NO_DRAWS),
    ],
    ids=["retinanet", "libra_retinanet", "faster_rcnn"],
)
def test_two_processes_follow_one_with_twice_the_images(tmp_path, write, settings):
    cfg = write(tmp_path)
    count = 8 if write is write_tiny_rcnn_config else 20
    one, two = tmp_path / "one", tmp_path / "two"
    alone = _start(
        "train_net.py",
        *_train(cfg, *settings, "TRAIN.IMS_PER_BATCH", 2, "OUTPUT_DIR", one, iterations=count),
    )
    assert _ended(alone)[0] == 0
    # As on two machines: each is started by itself, and they share a folder.
    (tmp_path / "meeting").mkdir()
    several = [
        _start(
            "train_net.py",
            *_train(
                cfg, "--num-shards", 2, "--shard-id", shard, "--rendezvous", tmp_path / "meeting",
                *settings, "TRAIN.IMS_PER_BATCH", 1, "OUTPUT_DIR", two / str(shard),
                iterations=count,
            ),
        )
        for shard in (1, 0)
    ]  # fmt: skip
    assert [_ended(process)[0] for process in several] == [0, 0]
    assert not (two / "1").exists()  # one process writes
    expected, found = _losses(one), _losses(two / "0")
    assert len(expected) == len(found) == count
    for ours, theirs in zip(found, expected):
        assert ours == pytest.approx(theirs, rel=2e-5, abs=2e-5)
    weights = _blobs(two / "0")
    for name, blob in _blobs(one).items():
        if not name.endswith("_momentum"):
            np.testing.assert_allclose(weights[name], blob, rtol=1e-3, atol=1e-4)


def test_a_training_that_is_stopped_and_killed_ends_with_the_same_weights(tmp_path):
    cfg = write_tiny_config(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    count = 16
    status, errors = _ended(_launch(cfg, "OUTPUT_DIR", whole, iterations=count))
    assert status == 0, errors

    folder = broken / "train" / "squares" / "retinanet"
    process = _launch(cfg, "OUTPUT_DIR", broken, iterations=count)
    _wait_for(folder / "model_iter2.pkl", process)
    process.send_signal(signal.SIGINT)
    status, errors = _ended(process)
    assert status == 130 and errors.splitlines()[-1].startswith("interrupted: saved ")
    assert not _messages(errors)

    process = _launch(cfg, "OUTPUT_DIR", broken, iterations=count)
    resumed = _newest(folder) + 3
    _wait_for(folder / f"model_iter{resumed}.pkl", process)
    worker = _worker(process)
    os.kill(worker, signal.SIGKILL)
    killed = time.monotonic()
    status, errors = _ended(process)
    assert time.monotonic() - killed < 60
    last = errors.splitlines()[-1]
    assert status == 2
    assert last.startswith(f"error: process 1 of 2 ({worker} on ")
    assert "has ended without a message: was it killed" in last
    assert f"saved {folder}/model_iter" in last
    assert last.endswith("the same command resumes from there")
    assert _messages(errors) == [last]

    status, errors = _ended(_launch(cfg, "OUTPUT_DIR", broken, iterations=count))
    assert status == 0, errors
    expected = _blobs(whole)
    for name, blob in _blobs(broken).items():
        np.testing.assert_array_equal(blob, expected[name])


def _newest(folder: Path) -> int:
    return max(int(path.stem[len("model_iter") :]) for path in folder.glob("model_iter*.pkl"))


def _worker(launcher: subprocess.Popen) -> int:
    """Return the process id of process 1 that tools/launch.py has started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    for child in map(int, children):
        arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if arguments[arguments.index(b"--shard-id") + 1] == b"1":
            return child
    raise AssertionError("process 1 does not run")


def test_a_loss_that_is_not_finite_ends_all_processes_at_once(tmp_path):
    cfg = write_tiny_config(tmp_path)
    process = _launch(cfg, "SOLVER.BASE_LR", "1e30", "SOLVER.WARM_UP_ITERS", 0)
    status, errors = _ended(process)
    last = errors.splitlines()[-1]
    assert status == 2 and _messages(errors) == [last]
    assert "(not kept: 2 processes trained it)" in last
    assert last.count(".png") == 2  # the images of both processes


def test_an_error_in_one_process_is_told_by_process_0(tmp_path):
    cfg = write_tiny_config(tmp_path)
    image = tmp_path / "squares" / "images" / "5.png"
    image.write_bytes(image.read_bytes()[:200])
    status, errors = _ended(_launch(cfg))
    last = errors.splitlines()[-1]
    assert status == 2 and _messages(errors) == [last]
    assert "5.png" in last


def test_another_number_of_processes_is_said(tmp_path):
    cfg = write_tiny_config(tmp_path)
    output = tmp_path / "output"
    assert _ended(_launch(cfg, "OUTPUT_DIR", output, iterations=3))[0] == 0
    final = _run_folder(output) / "model_final.pkl"
    final.rename(final.with_name("model_iter2.pkl"))
    outcome = run_tool(
        "train_net",
        *_train(cfg, "TRAIN.IMS_PER_BATCH", 1, "OUTPUT_DIR", output, iterations=4),
    )
    assert outcome.status == 0
    assert "with 1 process, was 2: an iteration reads 1 image from now on" in outcome.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-shards", 2], "--num-shards, --shard-id and --rendezvous need each other"),
        (["--shard-id", 1], "--num-shards, --shard-id and --rendezvous need each other"),
        (["--interface", "lo"], "--num-shards, --shard-id and --rendezvous need each other"),
        (
            ["--num-shards", 2, "--shard-id", 2, "--rendezvous", "."],
            "--shard-id 2 must be from 0 to 1 with --num-shards 2",
        ),
        (
            ["--num-shards", 0, "--shard-id", 0, "--rendezvous", "."],
            "--num-shards 0 must be at least 1",
        ),
        (
            ["--num-shards", 2, "--shard-id", 0, "--rendezvous", "/nowhere"],
            "the rendezvous folder /nowhere does not exist",
        ),
        (
            ["--num-shards", 2, "--shard-id", 0, "--rendezvous", ".", "--interface", "x9"],
            "--interface x9 is not one of this machine: lo",
        ),
    ],
)
def test_wrong_flags_end_in_one_line(tmp_path, flags, message):
    outcome = run_tool("train_net", "--cfg", write_tiny_config(tmp_path), "--skip-test", *flags)
    assert message in failure(outcome)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", 2], "the command to start must follow --"),
        (["-n", 0, "--", "tools/train_net.py"], "-n must be from 1 to 1024, given 0"),
        (["-n", 2, "--", "tools/demo.py"], "tools/demo.py does not run in several processes"),
    ],
)
def test_wrong_arguments_of_launch_end_in_one_line(arguments, message):
    assert message in failure(run_tool("launch", *arguments))
