from __future__ import annotations

import pytest
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext import config as configuration


@pytest.fixture
def tiny_config(tmp_path):
    """Return a function: overrides -> configuration of a tiny RetinaNet on 8 small images."""
    path = write_tiny_config(tmp_path)
    return lambda *overrides: configuration.load(str(path), overrides)


@pytest.fixture
def tiny_rcnn_config(tmp_path):
    """Return a function: overrides -> configuration of a tiny Faster R-CNN on 8 small images."""
    path = write_tiny_rcnn_config(tmp_path)
    return lambda *overrides: configuration.load(str(path), overrides)
