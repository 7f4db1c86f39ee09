"""Skips every test of this folder on a machine without a GPU that can be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detectron_ext.modeling.devices import available_gpus

# The cases of the operators are those of the tests on the CPU.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ops"))


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    if not available_gpus():
        pytest.skip("no GPU that this Caffe2 has code for (tools/check_gpu.sh)")
