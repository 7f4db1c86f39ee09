"""The front-ends: what they reject, which operator they add, and what happens without a library."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from caffe2.proto import caffe2_pb2
from caffe2.python import core, workspace

from detectron_ext import ops
from detectron_ext.ops import library


@pytest.fixture
def unloaded(monkeypatch):
    """Let `library` believe that this process has not loaded any library yet."""
    state = type("State", (library._State,), {"attempted": False, "native": False})
    monkeypatch.setattr(library, "_State", state)
    monkeypatch.delenv(library.ENVIRONMENT_VARIABLE, raising=False)


def add_focal(net=None, **arguments):
    return ops.sigmoid_focal_loss(net or core.Net("n"), "x", "t", "fg", "loss", **arguments)


def add_softmax_focal(**arguments):
    return ops.softmax_focal_loss(core.Net("n"), "x", "t", "fg", "loss", **arguments)


def add_weighted_focal(**arguments):
    return ops.weighted_sigmoid_focal_loss(core.Net("n"), "x", "t", "fg", "w", "loss", **arguments)


def add_box_loss(name):
    return lambda **arguments: getattr(ops, name)(
        core.Net("n"), "y_hat", "y", "a", "b", "loss", **arguments
    )


def add_gather(levels=5, refine_level=1):
    names = [f"x{i}" for i in range(levels)]
    return ops.balanced_pyramid_gather(core.Net("n"), names, "mean", refine_level)


def add_scatter(levels=5, refine_level=1, outputs=5):
    names = [f"x{i}" for i in range(levels)]
    results = [f"y{i}" for i in range(outputs)]
    return ops.balanced_pyramid_scatter(core.Net("n"), "mean", names, results, refine_level)


BALANCED = [add_box_loss("balanced_l1_loss"), add_box_loss("select_balanced_l1_loss")]
SMOOTH = [add_box_loss("smooth_l1_loss"), add_box_loss("select_smooth_l1_loss")]
FOCAL = [add_focal, add_weighted_focal, add_softmax_focal]
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("functions", "arguments"),
    [
        (BALANCED, {"alpha": 0.0}),
        (BALANCED, {"alpha": NAN}),
        (BALANCED, {"gamma": -1.5}),
        (BALANCED, {"formula": "paper"}),
        (BALANCED, {"gamma": INFINITY}),
        (BALANCED + SMOOTH, {"beta": 0}),
        (BALANCED + SMOOTH, {"beta": INFINITY}),
        (BALANCED + SMOOTH, {"beta": 1e39}),
        (BALANCED + SMOOTH, {"beta": 1e-46}),
        (BALANCED + SMOOTH + FOCAL, {"scale": -1.0}),
        (BALANCED + SMOOTH + FOCAL, {"scale": 1e39}),
        (FOCAL, {"gamma": INFINITY}),
        (FOCAL, {"gamma": -0.5}),
        (FOCAL, {"alpha": 1.5}),
        (FOCAL, {"alpha": NAN}),
        (FOCAL, {"num_classes": 0}),
        (FOCAL, {"num_classes": 2.5}),
        ([add_softmax_focal], {"num_classes": 1}),
        ([add_gather, add_scatter], {"refine_level": 5}),
        ([add_gather, add_scatter], {"refine_level": -1}),
        ([add_gather, add_scatter], {"refine_level": True}),
        ([add_gather, add_scatter], {"levels": 1}),
        ([add_gather, add_scatter], {"levels": 9}),
        ([add_scatter], {"outputs": 4}),
        ([lambda scale: ops.upsample_nearest(core.Net("n"), "x", "y", scale)], {"scale": 0}),
        (
            [lambda num_classes: ops.group_spatial_softmax(core.Net("n"), "x", "y", num_classes)],
            {"num_classes": 0},
        ),
        (
            [
                lambda min: ops.affine_channel_clip(
                    core.Net("n"), "x", "s", "b", "y", min=min, max=6
                )
            ],
            {"min": 6.5},
        ),
        (
            [
                lambda min: ops.affine_channel_clip(
                    core.Net("n"), "x", "s", "b", "y", min=min, max=6
                )
            ],
            {"min": float("nan")},
        ),
    ],
)
def test_an_argument_out_of_range_is_refused_and_named(functions, arguments):
    (name,) = arguments

    for function in functions:
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            function(**arguments)


def test_balanced_l1_refuses_arguments_beyond_single_precision():
    for function in BALANCED:
        with pytest.raises(ValueError, match=r"^gamma must be at most 60 times alpha \(0.02\)"):
            function(alpha=0.02)
        function(alpha=0.75, gamma=45.0)
        with pytest.raises(ValueError, match="beta .* too far apart for single precision"):
            function(beta=1e-38, gamma=5.0)


def test_numpy_integers_are_accepted():
    add_gather(refine_level=np.int64(2))
    add_focal(num_classes=np.int32(20))


def test_a_whole_number_reaches_the_operator_as_a_float():
    net = core.Net("n")

    with core.DeviceScope(core.DeviceOption(caffe2_pb2.CUDA, 0)):
        add_focal(net, gamma=2, alpha=0, scale=1)
        ops.smooth_l1_loss(net, "y_hat", "y", "a", "b", "loss2", beta=1, scale=2)

    floats = [{arg.name for arg in op.arg if arg.HasField("f")} for op in net.Proto().op]
    assert floats == [{"gamma", "alpha", "scale"}, {"beta", "scale"}]


def test_front_ends_return_blobs_with_the_given_names():
    net = core.Net("n")

    assert str(add_focal(net)) == "loss"
    assert [str(blob) for blob in add_softmax_focal()] == ["loss", "loss_prob"]
    assert [str(blob) for blob in add_scatter()] == [f"y{i}" for i in range(5)]
    with core.NameScope("scope"):
        assert str(add_focal(net)) == "scope/loss"


def test_detectrons_operators_need_no_native_library_on_cuda(monkeypatch):
    monkeypatch.setattr(library._State, "native", False)
    monkeypatch.setattr(library._State, "native_cuda", False)
    net = core.Net("n")

    with core.DeviceScope(core.DeviceOption(caffe2_pb2.CUDA, 0)):
        add_focal(net)
        ops.balanced_l1_loss(net, "y_hat", "y", "a", "b", "loss2")
    add_focal(net)

    assert [op.type for op in net.Proto().op] == ["SigmoidFocalLoss", "Python", "Python"]


def test_operators_are_native_on_cuda_if_built_with_cuda(monkeypatch):
    monkeypatch.setattr(library._State, "native", True)

    for built_with_cuda in (False, True):
        monkeypatch.setattr(library._State, "native_cuda", built_with_cuda)
        with core.DeviceScope(core.DeviceOption(caffe2_pb2.CUDA, 0)):
            assert library.has_native("BalancedL1Loss") is built_with_cuda
            assert library.has_native("SigmoidFocalLoss")
        assert library.has_native("BalancedL1Loss")


def test_one_warning_says_that_the_library_is_not_built(unloaded, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(library, "NATIVE_LIBRARY", tmp_path / "absent.so")

    library.load()
    library.load()

    assert not ops.native_library_loaded()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "make ops" in record.getMessage()


@pytest.mark.parametrize("which", ["NATIVE_LIBRARY", "DETECTRON_LIBRARY"])
def test_a_library_that_does_not_load_is_a_warning(unloaded, monkeypatch, tmp_path, caplog, which):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(library, which, broken)

    library.load()

    assert not ops.native_library_loaded()
    assert "broken.so" in caplog.records[0].getMessage()


def test_a_library_of_another_version_is_a_warning(unloaded, monkeypatch, caplog):
    # Any library without our operators will do.
    monkeypatch.setattr(library, "NATIVE_LIBRARY", library.DETECTRON_LIBRARY)
    monkeypatch.setattr(library, "operators_of", lambda name: ["NoSuchOperator"])

    library.load()

    assert not ops.native_library_loaded()
    (record,) = caplog.records
    assert "NoSuchOperator" in record.getMessage()
    assert "make ops" in record.getMessage()


def test_the_environment_variable_selects_python_operators(unloaded, monkeypatch, caplog):
    monkeypatch.setenv(library.ENVIRONMENT_VARIABLE, "python")

    library.load()

    assert not ops.native_library_loaded()
    assert not caplog.records


def test_a_net_of_python_operators_runs_in_another_process(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "has_native", lambda operator: False)
    net = core.Net("sent")
    ops.upsample_nearest(net, net.GivenTensorFill([], "x", shape=[1, 1, 1], values=[3.0]), "y")
    path = tmp_path / "net.pb"
    path.write_bytes(net.Proto().SerializeToString())
    program = (
        "import sys; from caffe2.python import workspace\n"
        "workspace.RunNetOnce(open(sys.argv[1], 'rb').read())\n"
        "print(workspace.FetchBlob('y').ravel())\n"
    )
    package = os.path.dirname(os.path.dirname(os.path.dirname(ops.__file__)))
    environment = {**os.environ, "PYTHONPATH": package}

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.strip() == "[3. 3. 3. 3.]"


def test_a_small_model_trains_on_python_operators(monkeypatch):
    monkeypatch.setattr(library, "has_native", lambda operator: False)
    workspace.ResetWorkspace()
    random = np.random.RandomState(0)
    workspace.FeedBlob("x", random.standard_normal((1, 6, 4, 4)).astype(np.float32))
    workspace.FeedBlob("t", random.randint(0, 4, (1, 2, 4, 4)).astype(np.int32))
    workspace.FeedBlob("fg", np.float32([20]))
    workspace.FeedBlob("minus_rate", np.float32([-5]))
    workspace.FeedBlob("one", np.float32([1]))
    net = core.Net("train")
    net.AddExternalInput("x", "t", "fg", "minus_rate", "one")
    loss = add_focal(net, num_classes=3)
    gradient = net.AddGradientOperators([loss])["x"]
    net.WeightedSum(["x", "one", gradient, "minus_rate"], "x")
    workspace.CreateNet(net)

    losses = []
    for _ in range(30):
        workspace.RunNet(net)
        losses.append(float(workspace.FetchBlob(str(loss))))

    assert losses[-1] < 0.2 * losses[0]
