"""Tools start without packages that only a part of their work needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("scipy", "networkx", "matplotlib", "jinja2", "onnx", "onnxruntime", "tensorboard")


@pytest.mark.parametrize("module", ["train_and_test", "infer"])
def test_a_command_starts_without_heavy_packages(module):
    program = (
        f"import sys, detectron_ext.commands.{module}\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    output = subprocess.check_output([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    assert output.decode().splitlines()[-1] == "[]"
