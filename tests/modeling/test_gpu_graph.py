"""The graph for GPUs, built without one: names, devices and gradient averaging."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from caffe2.proto import caffe2_pb2
from two_gpus import CONFIGS, build_for_two_gpus

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.modeling import devices

DETECTORS = ["retinanet", "faster_rcnn"]


def _build(detector, train, *overrides):
    return build_for_two_gpus(detector, train, "USE_NCCL", "True", *overrides)


@pytest.fixture(scope="module", params=DETECTORS)
def model(request):
    return _build(request.param, True, "LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True")


def test_each_replica_has_its_own_scope(model):
    first = [str(p) for p in model.params if str(p).startswith("gpu_0/")]
    second = [str(p) for p in model.params if str(p).startswith("gpu_1/")]
    assert [name[6:] for name in first] == [name[6:] for name in second]
    assert len(first) + len(second) == len(model.params)
    nets = (model.net.Proto(), model.param_init_net.Proto())
    blobs = {blob for net in nets for op in net.op for blob in [*op.input, *op.output]}
    assert not [blob for blob in blobs if blob.count("gpu_") != 1]
    assert len(model.losses) == 10 and not [name for name in model.losses if "/" in name]


def test_every_operator_is_placed_on_a_gpu(model):
    on_cpu = set()
    for op in model.net.Proto().op:
        if op.device_option.device_type != caffe2_pb2.CUDA and not op.type.startswith("Python"):
            on_cpu.add(op.type)
    assert on_cpu <= {"CollectRpnProposals"}  # Caffe2 has it for the CPU only


@pytest.mark.parametrize("train", [True, False])
def test_blobs_of_cpu_operators_are_copied_there_and_back(train):
    operators = list(_build("faster_rcnn", train).net.Proto().op)
    types = [op.type for op in operators]
    index = next(i for i, op in enumerate(types) if op.startswith("Collect"))
    collect = operators[index]
    assert collect.device_option.device_type == caffe2_pb2.CPU
    count = len(collect.input)
    copies_in, copies_out = operators[index - count : index], operators[index + 1 :]
    assert [op.type for op in copies_in] == ["CopyGPUToCPU"] * count
    assert [op.output[0] for op in copies_in] == list(collect.input)
    for blob, op in zip(collect.output, copies_out):
        assert (op.type, op.input[0], op.output[0] + "_cpu") == ("CopyCPUToGPU", blob, blob)


def test_gradients_are_averaged_once_for_each_parameter(model):
    reductions = [op for op in model.net.Proto().op if op.type == "NCCLAllreduce"]
    assert len(reductions) == len(model.trainable_params("gpu_0/"))
    assert all(len(op.input) == 2 for op in reductions)
    assert model.loss_scale == 0.5


def test_testing_uses_one_replica():
    assert all(str(p).startswith("gpu_0/") for p in _build("retinanet", False).params)


@pytest.mark.parametrize("available, where", [(0, "the CPU"), (2, "2 GPUs")])
def test_num_gpus_is_limited_to_the_machine_and_this_is_logged_once(
    monkeypatch, caplog, available, where
):
    monkeypatch.setattr(devices, "available_gpus", lambda: available)
    devices._say_once.cache_clear()  # other tests may have logged it
    config = configuration.load(str(CONFIGS / "retinanet_R-36-tiny.yaml"), ["NUM_GPUS", "8"])
    with caplog.at_level(logging.INFO, "detectron_ext"):
        assert [devices.usable_gpus(config) for _ in range(2)] == [available, available]
    (record,) = caplog.records
    assert f"NUM_GPUS is 8 and this machine has {available}: running on {where}," in record.message


@pytest.mark.parametrize("wanted, available", [(0, 0), (0, 2), (1, 2), (2, 2)])
def test_available_gpus_are_used_without_a_message(monkeypatch, caplog, wanted, available):
    monkeypatch.setattr(devices, "available_gpus", lambda: available)
    with caplog.at_level(logging.INFO, "detectron_ext"):
        assert devices.usable_gpus(SimpleNamespace(NUM_GPUS=wanted)) == wanted
    assert not caplog.records


def test_blobs_have_plain_names_without_a_gpu():
    assert devices.replica_scopes(0) == [""]


def test_unscoped_removes_the_scope_of_a_replica():
    assert devices.unscoped("gpu_3/conv1_w") == devices.unscoped("conv1_w") == "conv1_w"


def test_a_softmax_focal_loss_with_a_gamma_below_one_is_refused_on_gpus():
    """There is no such limit on the CPU: Detectron's CUDA kernel alone divides 0 by 0 at p = 1."""
    softmax = ["RETINANET.SOFTMAX", "True", "RETINANET.LOSS_GAMMA"]
    with pytest.raises(ConfigError, match="LOSS_GAMMA 0 needs RETINANET.SOFTMAX False on GPUs"):
        _build("retinanet", True, *softmax, "0.0")
    _build("retinanet", True, *softmax, "1.0")
    _build("retinanet", True, "RETINANET.LOSS_GAMMA", "0.0")
