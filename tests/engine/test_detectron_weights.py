"""Weights files as Detectron reads them: its own loader, and what that loader relies on."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import yaml

from detectron_ext import config as configuration
from detectron_ext import environment
from detectron_ext.engine.parameters import load_parameters, save_parameters
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import WeightsError
from detectron_ext.modeling import build_model

# Detectron's loader in a process of its own; the scope of a GPU becomes the CPU.
_LOADER = """
import contextlib, sys, types
import numpy, yaml
from caffe2.python import core, workspace
sys.path.insert(0, sys.argv[1])
numpy.asscalar = lambda array: array.item()
load = yaml.load
yaml.load = lambda text, Loader=yaml.UnsafeLoader: load(text, Loader=Loader)
from detectron.utils import c2, net
c2.NamedCudaScope = lambda gpu_id: contextlib.nullcontext()
core.ScopedName = lambda name: name
params = sys.argv[3].split(",")
for name in params:
    workspace.FeedBlob(name, numpy.zeros([int(n) for n in sys.argv[4].split(",")], "float32"))
model = types.SimpleNamespace(params=params, train=True)
net.initialize_gpu_from_weights_file(model, sys.argv[2])
for name in params:
    print(name, float(workspace.FetchBlob(name).sum()))
    print(name, float(workspace.FetchBlob(name + "_momentum").sum()))
"""


@pytest.fixture
def saved(tiny_config, tmp_path):
    """A weights file of a training model, with momenta, and what it holds."""
    from caffe2.python import workspace

    workspace.ResetWorkspace()
    model = build_model(tiny_config(), train=True)
    workspace.RunNetOnce(model.param_init_net)
    for param in model.trainable_params():
        workspace.FeedBlob(f"{param}_momentum", workspace.FetchBlob(param) + np.float32(1))
    path = str(tmp_path / "model.pkl")
    save_parameters(model, path, ["__background__", "square", "disc"])
    return path, model


class _AttrDict(dict):
    """Stands in for Detectron's class of configurations."""

    __getattr__ = dict.__getitem__


def test_the_stored_configuration_has_detectrons_types(saved, tiny_config, monkeypatch):
    """Detectron reads cfg.MODEL.BBOX_REG_WEIGHTS from every file that it loads."""
    with open(saved[0], "rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert content.keys() == {"blobs", "cfg", "classes"}
    for name in ("detectron", "detectron.utils", "detectron.utils.collections"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["detectron.utils.collections"], "AttrDict", _AttrDict, False)
    config = yaml.load(content["cfg"], Loader=yaml.UnsafeLoader)
    assert list(config.MODEL.BBOX_REG_WEIGHTS) == [10, 10, 5, 5]
    assert config.LIBRA.BFP.ON is False
    assert configuration.load_legacy_yaml(content["cfg"])["FPN"]["DIM"] == tiny_config().FPN.DIM


def test_the_stored_configuration_is_loaded_as_a_file(saved, tiny_config, tmp_path):
    path = tmp_path / "stored.yaml"
    path.write_text(read_weights(saved[0]).cfg)
    assert configuration.load(str(path)) == tiny_config()


def test_a_file_without_configuration_is_loaded_as_bare_blobs(saved, tmp_path):
    """The layout of Detectron's ImageNet weights, written by Python 2's pickle protocols."""
    from caffe2.python import workspace

    path, model = saved
    blobs = {name: blob + 1 for name, blob in read_weights(path).blobs.items()}
    bare = tmp_path / "R-50.pkl"
    bare.write_bytes(pickle.dumps(blobs, protocol=0))
    load_parameters(model, str(bare))
    for name in ("conv1_w", "conv1_w_momentum"):
        np.testing.assert_array_equal(workspace.FetchBlob(name), blobs[name])


def test_models_older_than_the_box_weights_name_the_key_to_set(tiny_rcnn_config, tmp_path):
    """Detectron sets the weights itself. Here the configuration is read-only."""
    from caffe2.python import workspace

    workspace.ResetWorkspace()
    one = ["MODEL.BBOX_REG_WEIGHTS", "(1.0,1.0,1.0,1.0)"]
    path = str(tmp_path / "old.pkl")
    model, old_model = (build_model(tiny_rcnn_config(*o), train=False) for o in ([], one))
    workspace.RunNetOnce(model.param_init_net)
    save_parameters(model, path, None)
    load_parameters(model, path)
    blobs = read_weights(path).blobs
    write_weights(path, Weights(blobs, "MODEL: {NUM_CLASSES: 3}\n", None))
    with pytest.raises(WeightsError, match=r"BBOX_REG_WEIGHTS \(1.0,1.0,1.0,1.0\)"):
        load_parameters(model, path)
    load_parameters(old_model, path)


@pytest.mark.skipif(
    not environment.DETECTRON_PATH.value, reason="needs DETECTRON_PATH, a checkout of Detectron"
)
def test_detectron_loads_what_is_saved_here(saved):
    blobs = read_weights(saved[0]).blobs
    shape = ",".join(map(str, blobs["fpn_6_w"].shape[:1]))
    arguments = [environment.DETECTRON_PATH.value, saved[0], "fpn_6_b", shape]
    done = subprocess.run(
        [sys.executable, "-c", _LOADER, *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    printed = [line.split() for line in done.stdout.splitlines() if line.startswith("fpn_6_b ")]
    expected = [blobs[name].sum() for name in ("fpn_6_b", "fpn_6_b_momentum")]
    np.testing.assert_allclose([float(value) for _, value in printed], expected, rtol=1e-6)
