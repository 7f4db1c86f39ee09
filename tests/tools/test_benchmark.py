from __future__ import annotations

import re

from squares import REPOSITORY
from tool_runner import run_tool

_TINY = REPOSITORY / "configs" / "digits" / "libra_retinanet_R-36-tiny_256.yaml"


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
