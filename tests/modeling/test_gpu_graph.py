"""The graph for GPUs, built without one: names, devices and gradient averaging."""

from __future__ import annotations

from pathlib import Path

import pytest
from caffe2.proto import caffe2_pb2

from detectron_ext import config as configuration
from detectron_ext.modeling import build_model, builder, devices

TINY = Path(__file__).resolve().parents[2] / "configs" / "retinanet_R-36-tiny.yaml"


def _build(train, *overrides):
    options = ["MODEL.NUM_CLASSES", "4", "USE_NCCL", "True", *overrides]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(builder, "usable_gpus", lambda config: 2)
        return build_model(configuration.load(str(TINY), options), train)


@pytest.fixture(scope="module")
def model():
    return _build(True, "LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True")


def test_each_replica_lives_in_its_scope(model):
    first = [str(p) for p in model.params if str(p).startswith("gpu_0/")]
    second = [str(p) for p in model.params if str(p).startswith("gpu_1/")]
    assert [name[6:] for name in first] == [name[6:] for name in second]
    assert len(first) + len(second) == len(model.params)
    nets = (model.net.Proto(), model.param_init_net.Proto())
    blobs = {blob for net in nets for op in net.op for blob in [*op.input, *op.output]}
    assert not [blob for blob in blobs if blob.count("gpu_") != 1]
    assert "fl_fpn3" in model.losses and len(model.losses) == 10


def test_every_operator_has_a_gpu(model):
    for op in model.net.Proto().op:
        if not op.type.startswith("Python"):
            assert op.device_option.device_type == caffe2_pb2.CUDA, op.type


def test_gradients_are_averaged_once_for_each_parameter(model):
    reductions = [op for op in model.net.Proto().op if op.type == "NCCLAllreduce"]
    assert len(reductions) == len(model.trainable_params("gpu_0/"))
    assert all(len(op.input) == 2 for op in reductions)
    assert model.loss_scale == 0.5


def test_testing_uses_one_replica():
    assert all(str(p).startswith("gpu_0/") for p in _build(False).params)


def test_a_legacy_gpu_count_means_the_cpu_here():
    config = configuration.load(str(TINY), ["NUM_GPUS", "8"])
    if devices.usable_gpus(config):
        pytest.skip("this machine has a GPU")
    assert devices.replica_scopes(0) == [""]


def test_unscoped():
    assert devices.unscoped("gpu_3/conv1_w") == devices.unscoped("conv1_w") == "conv1_w"
