"""Fixtures of tests against a checkout of upstream Detectron, which DETECTRON_PATH names."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path

import pytest
from caffe2.python import workspace
from squares import REPOSITORY

from detectron_ext import upstream


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Return the checkout, whose Cython parts are built in place; without one, skip the test."""
    path = os.environ.get("DETECTRON_PATH")
    if not path:
        pytest.skip("DETECTRON_PATH does not name a checkout of facebookresearch/Detectron")
    return Path(path).resolve()


@pytest.fixture
def importable(checkout, monkeypatch):
    """Give a test upstream's configuration, and restore it after the test."""
    monkeypatch.syspath_prepend(str(checkout))
    from detectron.core.config import cfg

    before = copy.deepcopy(cfg)
    yield cfg
    cfg.immutable(False)
    cfg.clear()
    cfg.update(before)
    workspace.ResetWorkspace()


@pytest.fixture
def cfg(importable):
    """Give a test upstream's configuration, with the adapter installed for the CPU."""
    upstream.install(cpu=True)
    yield importable
    upstream.uninstall()


@pytest.fixture
def environment(checkout) -> dict:
    """Return the environment of processes that use this repository and upstream."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
    }
