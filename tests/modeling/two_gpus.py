"""Builds small detectors for two GPUs on any machine. Their graphs are not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectron_ext import config as configuration
from detectron_ext.modeling import build_model, builder

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def build_for_two_gpus(detector, train, *overrides):
    """Return the model of configs/<detector>_R-36-tiny.yaml, for 3 object classes."""
    path = CONFIGS / f"{detector}_R-36-tiny.yaml"
    config = configuration.load(str(path), ["MODEL.NUM_CLASSES", "4", *overrides])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(builder, "usable_gpus", lambda config: 2)
        return build_model(config, train)
