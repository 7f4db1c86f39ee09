"""Small models with random weights, to be exported."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import workspace
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext import config as configuration
from detectron_ext.engine.parameters import save_parameters
from detectron_ext.modeling import build_model

# Sizes of the levels that do not divide, and an image that is scaled up.
_ODD = ("FPN.COARSEST_STRIDE", 32, "TEST.SCALE", 170, "TEST.MAX_SIZE", 200, "NUM_GPUS", 0)
_WRITERS = {"retinanet": write_tiny_config, "faster_rcnn": write_tiny_rcnn_config}


@pytest.fixture
def make_model(tmp_path):
    """Return a function: kind, overrides -> (configuration, weights file, image file)."""

    def make(kind, *overrides, noise=0.05):
        path = _WRITERS[kind](tmp_path)
        config = configuration.load(str(path), [*_ODD, *overrides])
        workspace.ResetWorkspace()
        model = build_model(config, train=False)
        workspace.RunNetOnce(model.param_init_net)
        _disturb(model, noise)
        weights = str(tmp_path / "model.pkl")
        save_parameters(model, weights, ["__background__", "square", "disc"])
        return config, weights, str(tmp_path / "squares" / "images" / "1.png")

    return make


def _disturb(model, noise):
    """Make predictions and refinement differ from place to place."""
    rng = np.random.RandomState(0)
    for param in map(str, model.params):
        if any(part in param for part in ("bfp", "pred", "score", "rpn")):
            value = workspace.FetchBlob(param)
            workspace.FeedBlob(param, (value + rng.normal(0, noise, value.shape)).astype("f"))
