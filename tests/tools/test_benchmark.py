from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from caffe2.python import workspace
from squares import REPOSITORY
from tool_runner import failure, run_tool

from detectron_ext import config as configuration

_TINY = REPOSITORY / "configs" / "digits" / "libra_retinanet_R-36-tiny_256.yaml"
_R50 = REPOSITORY / "configs" / "retinanet_R-50-FPN.yaml"
_EFFICIENTNET = REPOSITORY / "configs" / "finetune" / "retinanet_EfficientNetLite0_320.yaml"


def test_step_states_seconds_and_memory():
    outcome = run_tool(
        "benchmark", "step", "--cfg", _TINY, "--size", "70", "--batch", "1", "--steps", "1",
        "FPN.COARSEST_STRIDE", "32",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    line = re.search(
        r"([\d.]+) s per step .*70 pixels padded to 96; peak memory (.*) GB", outcome.out
    )
    assert line and float(line.group(1)) > 0 and float(line.group(2)) > 0.05


def test_sizes_below_one_are_refused():
    outcome = run_tool("benchmark", "step", "--cfg", _TINY, "--size", "0")
    assert outcome.status == 2 and outcome.err.startswith("error: --size")


def test_a_step_beside_pytorch_prints_both_sides_and_their_ratio():
    outcome = run_tool(
        "benchmark", "step", "--cfg", _EFFICIENTNET, "--size", "64", "--batch", "1", "--steps", "1",
        "--rounds", "1", "--beside", sys.executable, "MODEL.NUM_CLASSES", "3", "LIBRA.THREADS", "1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    sides = re.findall(r"^(this project|PyTorch \w+)[^:]*: [\d.]+ s per step", outcome.out, re.M)
    assert sides == ["this project", "PyTorch nchw", "PyTorch channels_last"]
    assert re.search(r"PyTorch's faster format takes [\d.]+ times as long", outcome.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", _TINY, "--beside", "python3"], "compares a RetinaNet whose MODEL.CONV_BODY is"),
        (["--cfg", _EFFICIENTNET, "--beside", "/no/python"], "/no/python cannot be run: No such"),
        (["--cfg", _EFFICIENTNET, "--size", "70", "--beside", "x"], "multiple of 32"),
    ],
)
def test_a_step_beside_pytorch_that_cannot_be_measured_is_refused(arguments, message):
    small = ["--batch", "1", "--steps", "1", "--rounds", "1", "MODEL.NUM_CLASSES", "3"]
    size = [] if "--size" in arguments else ["--size", "64"]
    assert message in failure(run_tool("benchmark", "step", *arguments, *size, *small))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vs-mmdet", "x", "MODEL.NUM_CLASSES", "3"], "--vs-mmdet compares RetinaNet or Faster"),
        (["--vs-mmdet", "/no/python"], "/no/python cannot be run: No such"),
        (["--size", "70", "--vs-mmdet", "x"], "--vs-mmdet needs a --size that is a multiple of 32"),
        (["--vs-mmdet", "x", "--beside", "y"], "give one of --beside, --vs-mmdet and --busy"),
    ],
)
def test_a_step_beside_mmdetection_that_cannot_be_measured_is_refused(arguments, message):
    small = ["--batch", "1", "--steps", "1", "--rounds", "1"]
    size = [] if "--size" in arguments else ["--size", "64"]
    outcome = run_tool("benchmark", "step", "--cfg", _R50, *small, *size, *arguments)
    assert message in failure(outcome)


@pytest.mark.skipif("MMDET_PYTHON" not in os.environ, reason="MMDET_PYTHON names no mmdetection")
@pytest.mark.parametrize("configuration", ["libra_retinanet", "faster_rcnn"])
def test_a_step_beside_mmdetection_prints_both_sides(configuration):
    cfg = REPOSITORY / "configs" / f"{configuration}_R-50-FPN.yaml"
    outcome = run_tool(
        "benchmark", "step", "--cfg", cfg, "--size", "64", "--batch", "1", "--steps", "1",
        "--rounds", "1", "--vs-mmdet", os.environ["MMDET_PYTHON"], "LIBRA.THREADS", "1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert re.search(r"^mmdetection 3[^:]*: [\d.]+ s per step", outcome.out, re.M)
    assert re.search(r"^mmdetection takes [\d.]+ times as long", outcome.out, re.M)


def test_a_step_beside_busy_processes_prints_both_medians_and_their_ratio():
    outcome = run_tool(
        "benchmark", "step", "--cfg", _TINY, "--size", "64", "--batch", "1", "--steps", "2",
        "--rounds", "2", "--busy", "1", "LIBRA.THREADS", "1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()[-3:]
    medians = [re.match(r"(.*): ([\d.]+) s per step", line).groups() for line in lines[:2]]
    assert [name for name, _ in medians] == ["alone", "beside 1 busy process"]
    ratio = re.fullmatch(
        r"beside 1 busy process a step takes ([\d.]+) times as long as alone", lines[2]
    )
    alone, beside = (float(seconds) for _, seconds in medians)
    assert float(ratio.group(1)) == pytest.approx(beside / alone, rel=0.05)


def test_a_step_beside_busy_processes_as_json():
    outcome = run_tool(
        "benchmark", "step", "--cfg", _TINY, "--size", "64", "--batch", "1", "--steps", "1",
        "--rounds", "1", "--busy", "2", "--json",
    )  # fmt: skip
    result = json.loads(outcome.out.splitlines()[-1])
    assert result["ratio"] == result["beside"]["seconds"] / result["alone"]["seconds"]
    assert result["size"] == 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--busy", "0"], "--busy must be from 1 to"),
        (["--busy", "1000"], "--busy must be from 1 to"),
        (["--busy", "two"], "--busy"),
        (["--busy", "2", "--beside", "x"], "give one of --beside, --vs-mmdet and --busy"),
        (["--busy", "2", "--vs-mmdet", "x"], "give one of --beside, --vs-mmdet and --busy"),
    ],
)
def test_busy_processes_that_cannot_be_started_are_refused(flags, message):
    assert message in failure(run_tool("benchmark", "step", "--cfg", _TINY, *flags))


def _running(group_leader):
    """Return whether a process exists and runs; one that has ended may wait for its parent."""
    try:
        state = Path(f"/proc/{group_leader}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _busy_children(parent):
    """Return the processes whose parent was `parent`, by the argument that says so."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if folder.name.isdigit() and words[-2:] == [str(parent).encode(), b""]:
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("killed", [False, True])
def test_busy_processes_use_a_processor_and_end_with_the_measurement(killed):
    program = (
        "import time, sys\n"
        "from detectron_ext.benchmarks.busy_processes import busy_processes\n"
        "with busy_processes(2):\n"
        "    print('started', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=str(REPOSITORY), **pipes) as process:
        assert process.stdout.readline() == b"started\n"
        busy = _busy_children(process.pid)
        assert len(busy) == 2
        _wait_until(lambda: all(_seconds_used(each) > 0.1 for each in busy))
        if killed:
            process.kill()
        else:
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.wait() == 0
    _wait_until(lambda: not any(map(_running, busy)))


def _seconds_used(process):
    ticks = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def _wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_pytorch_builds_the_network_that_this_project_builds():
    """Both have the same number of trained weights in each kind of layer."""
    from detectron_ext.modeling import build_model
    from detectron_ext.pytorch_benchmark.network import RetinaNet, Shape

    settings = ["MODEL.NUM_CLASSES", 7, "NUM_GPUS", 0]
    model = build_model(configuration.load(str(_EFFICIENTNET), settings), train=True)
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    trained = [str(name) for name in model.trainable_params()]
    ours = sorted(workspace.FetchBlob(name).size for name in trained)
    peer = RetinaNet(Shape(num_classes=6))
    theirs = sorted(each.numel() for each in peer.parameters() if each.requires_grad)
    assert ours == theirs


def test_an_image_states_seconds_and_memory():
    outcome = run_tool(
        "benchmark", "image", "--cfg", _TINY, "--size", "70", "--steps", "1",
        "FPN.COARSEST_STRIDE", "32",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    line = re.search(
        r"([\d.]+) s per image .*70 pixels padded to 96; peak memory (.*) GB", outcome.out
    )
    assert line and float(line.group(1)) > 0 and float(line.group(2)) > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--size, --steps and --rounds must be at least 1"),
        (["--vs-mmdet", "x", "--size", "70"], "needs a RetinaNet and a --size that is a multiple"),
        (["--vs-mmdet", "x"], "--vs-mmdet compares RetinaNet or Faster R-CNN"),
    ],
)
def test_an_image_that_cannot_be_measured_is_refused(arguments, message):
    assert message in failure(run_tool("benchmark", "image", "--cfg", _TINY, *arguments))


@pytest.mark.skipif("MMDET_PYTHON" not in os.environ, reason="MMDET_PYTHON names no mmdetection")
def test_an_image_beside_mmdetection_prints_both_sides():
    outcome = run_tool(
        "benchmark", "image", "--cfg", _R50, "--size", "64", "--steps", "1", "--rounds", "1",
        "--vs-mmdet", os.environ["MMDET_PYTHON"], "LIBRA.THREADS", "1", "FPN.COARSEST_STRIDE", "32",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert re.search(r"^mmdetection 3[^:]*: [\d.]+ s per image", outcome.out, re.M)


def test_a_profile_counts_the_work_of_every_operator():
    outcome = run_tool(
        "benchmark", "profile", "--cfg", _TINY, "--size", "64", "--batch", "1", "--steps", "1",
        "--json",
    )  # fmt: skip
    operators = json.loads(outcome.out)  # nothing else is printed
    assert len(operators) > 100
    assert all(operator["seconds"] >= 0 and operator["calls"] == 1 for operator in operators)
    named = {(operator["kind"], operator["layer"]): operator for operator in operators}
    # The head has 64 channels, and its finest level has 8 x 8 positions.
    head = named["Conv", "retnet_cls_conv_n0_fpn3"]
    assert head["gflop"] == pytest.approx(2 * 8 * 8 * 64 * 64 * 9 / 1e9)
    floats = 64 * (8 * 8 * 2 + 64 * 9 + 1)  # input and output, filter, bias
    assert head["gigabytes"] == pytest.approx(4 * floats / 1e9)


def test_a_profile_shows_types_and_the_slowest_operators():
    outcome = run_tool(
        "benchmark", "profile", "--cfg", _TINY, "--size", "64", "--batch", "1", "--steps", "1"
    )
    lines = outcome.out.splitlines()
    assert lines[0].endswith(" operators")
    assert any(line.startswith("| ConvGradient | ") for line in lines)
    start = lines.index("The 20 slowest operators:") + 4
    slowest = lines[start : lines.index("", start)]
    assert len(slowest) == 20
    times = [float(line.split("|")[3]) for line in slowest]
    assert times == sorted(times, reverse=True)


def _memory_over_step(*overrides):
    """Profile a step; return the sums of blobs in MB by operator, and the largest."""
    outcome = run_tool(
        "benchmark", "profile", "--cfg", _TINY, "--size", "256", "--batch", "2", "--steps", "1",
        *overrides,
    )  # fmt: skip
    rows = re.findall(r"^\| (\d+) \| .* (\d+)( \(largest\))? \|$", outcome.out, re.M)
    assert "| peak of the process | " in outcome.out
    parts = [int(line.split("|")[2]) for line in outcome.out.splitlines() if "largest sum" in line]
    assert len(parts) == 4 and parts[0] > 1 and parts[3] > 1
    sums = {int(number): int(size) for number, size, _ in rows}
    (largest,) = (int(size) for _, size, mark in rows if mark)
    assert largest == max(sums.values())
    return sums, largest


def test_a_profile_shows_the_memory_over_the_step():
    """Blobs pile up if nothing is freed. Otherwise, only parameters and inputs stay at the end."""
    kept, largest = _memory_over_step("LIBRA.TRAIN.FREE_BLOBS", "False")
    assert list(kept.values()) == sorted(kept.values()) and largest == kept[max(kept)]
    freed, peak = _memory_over_step()
    assert peak < 0.7 * largest
    assert freed[max(freed)] <= freed[min(freed)] < 0.5 * peak


def test_a_profile_without_steps_is_refused():
    outcome = run_tool("benchmark", "profile", "--cfg", _TINY, "--steps", "0")
    assert "--steps must be at least 1" in outcome.err
