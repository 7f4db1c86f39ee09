"""A process that makes many models does not keep what Caffe2 remembers of those that are gone."""

from __future__ import annotations

import gc

import pytest
from caffe2.python import workspace
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext import config as configuration
from detectron_ext.modeling import build_model


@pytest.mark.parametrize("write", [write_tiny_config, write_tiny_rcnn_config])
@pytest.mark.parametrize("train", [True, False])
def test_stack_traces_of_a_model_go_with_it(write, train, tmp_path):
    config = configuration.load(str(write(tmp_path)), [])
    gc.collect()
    before = set(workspace.operator_tracebacks)
    model = build_model(config, train=train)
    net = model.net.Name()
    assert workspace.operator_tracebacks[net]
    del model
    gc.collect()
    assert set(workspace.operator_tracebacks) <= before
