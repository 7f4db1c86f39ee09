"""Command lines that nobody should write work, or end in one line and status 2.

    export DETECTRON_EXT_TEST_HOSTILE=3000    # a tenth of them are command lines
    .venv/bin/python -m pytest -s tests/tools/test_hostile_commands.py

Valid command lines of the tools get hostile KEY VALUE pairs, options and words. Each one runs in a
child process, in an empty folder, with limits of time and memory.
"""

from __future__ import annotations

import collections
import json
import os
import re
import resource
import shutil
import signal
import traceback
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tool_runner import run_tool

from detectron_ext import environment
from detectron_ext.config.keys import KEYS

_EXAMPLES = max(10, int(environment.TEST_HOSTILE.value or 300) // 10)
_SECONDS, _MEMORY = 60, 4 << 30  # of processor time, as the machine may have other work

# No text leads out of the folder: a tool writes where it is told to.
_TEXTS = [
    "", " ", ".", "-", "--", "-1", "é", "\udcff", "\n", "\x7f", "a" * 5000, "nan", "1e999", "None",
    "0x" + "f" * 100, "9" * 5000, "True", "[]", "{}", "()", "[[]]", "*a", "%s%n", "${X}", "null",
    "(" * 200, "-" * 500 + "1", "2**2**2", "1_0", "'", '"', "lambda: 0", "__import__('os')", "a=b",
    "none.yaml", "none.pkl", ".png", "1 2", "1,2", "0", "1", "-0.0", "1e308", "1e-320",
]  # fmt: skip
_NUMBERS = [0, -1, 1, 2, 7, 2**15, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30]

_numbers = st.one_of(st.sampled_from(_NUMBERS), st.integers(-10, 10), st.floats(width=32))
_plain = st.one_of(st.none(), st.booleans(), _numbers, st.sampled_from(_TEXTS[:8]))
_trees = st.recursive(
    _plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.sampled_from(["", "a", "im_dir", "ann_fn", "ON"]), inner, max_size=3),
    ),
    max_leaves=8,
)


def _like(default: object) -> st.SearchStrategy:
    """Return values of the type of a key's default."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, (int, float)):
        return _numbers
    if isinstance(default, str):
        return st.sampled_from(_TEXTS)
    return st.lists(_numbers, max_size=5).map(type(default) if type(default) is tuple else list)


_pairs = st.one_of(
    st.sampled_from(sorted(KEYS)).flatmap(
        lambda key: st.tuples(
            st.just(key),
            st.one_of(_like(KEYS[key].default), _trees, st.sampled_from(_TEXTS)).map(str),
        )
    ),
    st.tuples(
        st.sampled_from(
            ["", "TRAIN", "LIBRA.", ".", "TRAIN.SCALES.0", "train.scales", "X.Y", "A B"]
        ),
        _trees.map(str),
    ),
)


@pytest.fixture(scope="module")
def commands(_trained, tmp_path_factory) -> dict:
    """Return (arguments, arguments that stay at the end) of each tool; {} is its folder."""
    place = _trained[0]
    folder = tmp_path_factory.mktemp("hostile")
    checkpoint = folder / "model.pth"
    torch.save({"state_dict": {"conv1.weight": torch.ones(64, 3, 7, 7)}}, str(checkpoint))
    spec = folder / "sweep.yaml"
    spec.write_text(yaml.safe_dump({"variants": {"a": {"config": str(place.cfg)}}, "seeds": [1]}))
    picture = str(sorted(place.images.iterdir())[0])
    run = str(place.folder / "output")
    configured = ["--cfg", str(place.cfg)]
    tested = ["TEST.WEIGHTS", str(place.weights)]
    short = ["OUTPUT_DIR", "{}", "SOLVER.MAX_ITER", "1"]
    return {
        "train_net": (["--skip-test", *configured], short),
        "test_net": ([*configured, *tested], ["OUTPUT_DIR", "{}"]),
        "infer_simple": (
            [*configured, "--wts", str(place.weights), "--output-dir", "{}", picture],
            ["OUTPUT_DIR", "{}"],
        ),
        "check_data": ([*configured, "--output-dir", "{}"], ["OUTPUT_DIR", "{}"]),
        "sweep": (["--dry-run", "--results", "{}", str(spec)], []),
        "export_onnx": ([*configured, "--out", "{}/m.onnx", *tested], []),
        "convert_pkl_to_pb": ([*configured, "--out_dir", "{}", *tested], []),
        "convert_backbone": (
            ["--from", "torchvision", "--in", str(checkpoint), "--out", "{}/w.pkl"],
            [],
        ),
        "convert_mmdet_weights": (
            ["--arch", "retinanet_r50", "--in", str(checkpoint), "--out", "{}/w.pkl"],
            [],
        ),
        "compare_runs": (
            ["--baseline", run, "--candidate", run, *configured, "--output-dir", "{}"]
            + ["--resamples", "3"],
            [],
        ),
        "reval": (["--dataset", "squares", *configured, "--output-dir", "{}", run], []),
    }


def _options(tool: str) -> list[str]:
    """Return the options that the help of a tool names."""
    found = set(re.findall(r"--[a-z][a-z_-]+", run_tool(tool, "--help").out))
    return sorted(found - {"--help", "--upstream", "--wait", "--rendezvous"})  # these wait


@st.composite
def _command_lines(draw, commands: dict, options: dict) -> tuple:
    tool = draw(st.sampled_from(sorted(commands)))
    words, last = commands[tool]
    words = list(words)
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(["pair", "pair", "pair", "option", "word", "leave out"]))
        if change == "pair":
            words += draw(_pairs)
        elif change == "option":
            value = draw(st.one_of(st.sampled_from(_TEXTS), _trees.map(str)))
            words[:0] = [draw(st.sampled_from(options[tool])), value]
        elif change == "word" and words:
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(_TEXTS))
        elif words:
            del words[draw(st.integers(0, len(words) - 1))]
    return tool, [word.replace("\0", "0") for word in [*words, *last]]


def _run(folder: Path, tool: str, words: list) -> tuple[str, str]:
    """Run a tool in a child process; return what happened and its messages."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if not child:
        os.close(inlet)
        try:
            os.chdir(str(folder))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
            spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
            resource.setrlimit(resource.RLIMIT_CPU, (spent + _SECONDS, spent + _SECONDS + 5))
            outcome = run_tool(tool, *words)
            result = [str(outcome.status), outcome.err[-20_000:]]
        except BaseException:  # what a person would see as a traceback
            result = ["traceback", traceback.format_exc()[-3000:]]
        os.write(outlet, json.dumps(result).encode())
        os._exit(0)
    os.close(outlet)
    with open(inlet, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    if not text:
        return signal.Signals(status & 127).name if status & 127 else f"exit {status}", ""
    return tuple(json.loads(text))


def _judged(status: str, messages: str) -> str:
    """Return "worked" or "refused", or what is wrong."""
    if status == "0":
        return "worked"
    errors = [line for line in messages.splitlines() if "error: " in line]
    if status != "2":
        return f"{status}: {messages[-2000:]}"
    if len(errors) != 1 or "Traceback" in messages or len(errors[0]) > 20_000:
        return f"not one line: {messages[-2000:]}"
    return "refused"


def test_hostile_command_lines_work_or_end_in_one_line(commands, tmp_path):
    options = {tool: _options(tool) for tool in commands}
    table: collections.Counter = collections.Counter()
    faults = []

    # Shrinking would run each fault many times.
    @settings(
        max_examples=_EXAMPLES, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_command_lines(commands, options))
    def run(command):
        tool, words = command
        folder = tmp_path / "place"
        folder.mkdir()
        output = folder / "output"
        result = _judged(*_run(folder, tool, [word.replace("{}", str(output)) for word in words]))
        shutil.rmtree(str(folder))
        table[tool, result if result in ("worked", "refused") else "fault"] += 1
        if result not in ("worked", "refused"):
            faults.append(f"{tool} {words}\n    {result}")

    run()
    for (tool, result), number in sorted(table.items()):
        print(f"{tool:22s} {result:8s} {number}")
    assert not faults, "\n".join(faults[:30])
    assert os.listdir(str(tmp_path)) == []
    assert sum(number for (_, result), number in table.items() if result == "refused") > 3
