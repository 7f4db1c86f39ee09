"""The operators give the values and gradients that mmdetection's own modules gave."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from operator_cases import relative_error

from detectron_ext import ops
from detectron_ext.ops import library, reference

LEVELS = 5
REFINE_LEVEL = 1  # P4 of P3 to P7
TOLERANCE = 1e-5


@pytest.fixture(params=["python", "native"])
def backend(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(library, "has_native", lambda operator: False)
    elif not ops.native_library_loaded():
        pytest.skip("the native operators are not built (make ops)")
    return request.param


@pytest.fixture
def balanced_l1_vectors(shared_path):
    with np.load(shared_path("vectors/balanced_l1_mmdet.npz")) as vectors:
        return dict(vectors)


@pytest.fixture
def pyramid_vectors(shared_path):
    with np.load(shared_path("vectors/bfp_mmdet.npz")) as vectors:
        return dict(vectors)


@pytest.mark.parametrize("beta", [1.0, 0.11])
def test_balanced_l1_definition_gives_the_recorded_values(balanced_l1_vectors, beta):
    vectors = balanced_l1_vectors
    difference = np.float64(vectors["pred"]) - vectors["target"]
    arguments = {"beta": beta, "formula": "mmdet"}

    loss = reference.balanced_l1(difference, **arguments)
    slope = reference.balanced_l1_slope(difference, **arguments)

    assert relative_error(loss, vectors[f"loss_beta{beta}"]) <= TOLERANCE
    assert relative_error(slope, vectors[f"grad_beta{beta}"]) <= TOLERANCE


@pytest.mark.parametrize("beta", [1.0, 0.11])
@pytest.mark.parametrize("select", [False, True])
def test_balanced_l1_operators_give_the_recorded_values(backend, balanced_l1_vectors, beta, select):
    vectors = balanced_l1_vectors
    rows = len(vectors["pred"])
    ones = np.ones_like(vectors["pred"])
    net = new_net(y=vectors["target"], fg_num=np.float32([rows]), ones=ones)
    arguments = {"beta": beta, "formula": "mmdet"}
    if select:
        # The rows of pred become the pixels of a map one pixel high.
        feed(net, y_hat=vectors["pred"].T.reshape(1, 4, 1, rows))
        feed(net, locations=np.float32([[0, 0, 0, x] for x in range(rows)]))
        loss = ops.select_balanced_l1_loss(
            net, "y_hat", "y", "locations", "fg_num", "loss", **arguments
        )
    else:
        feed(net, y_hat=vectors["pred"])
        loss = ops.balanced_l1_loss(net, "y_hat", "y", "ones", "ones", "loss", **arguments)
    gradient = net.AddGradientOperators([loss])["y_hat"]
    workspace.RunNetOnce(net)

    expected = vectors[f"loss_beta{beta}"].sum(dtype=np.float64) / rows
    assert relative_error(fetch(loss), expected) <= TOLERANCE
    actual = fetch(gradient).reshape(4, rows).T if select else fetch(gradient)
    assert relative_error(actual * rows, vectors[f"grad_beta{beta}"]) <= TOLERANCE


def test_pyramid_definition_gives_the_recorded_values(pyramid_vectors):
    vectors = pyramid_vectors
    levels = [vectors[f"none/x{i}"] for i in range(LEVELS)]
    d_outputs = [vectors[f"none/gy{i}"] for i in range(LEVELS)]
    at = {"refine_level": REFINE_LEVEL}

    mean = reference.balanced_pyramid_gather(levels, **at)
    outputs = reference.balanced_pyramid_scatter(mean, levels, **at)
    d_mean, *direct = reference.balanced_pyramid_scatter_gradient(mean, d_outputs, **at)
    through_mean = reference.balanced_pyramid_gather_gradient(levels, d_mean, **at)

    for i in range(LEVELS):
        assert relative_error(outputs[i], vectors[f"none/y{i}"]) <= TOLERANCE
        assert relative_error(direct[i] + through_mean[i], vectors[f"none/gx{i}"]) <= TOLERANCE


@pytest.mark.parametrize("refinement", ["none", "conv", "non_local"])
def test_balanced_pyramid_operators_give_the_recorded_values(backend, pyramid_vectors, refinement):
    prefix = refinement + "/"
    vectors = {
        key[len(prefix) :]: value
        for key, value in pyramid_vectors.items()
        if key.startswith(prefix)
    }
    levels = [f"x{i}" for i in range(LEVELS)]
    parameters = [key for key in vectors if key.startswith("param/")]
    net = new_net(**{name: vectors[name] for name in levels + parameters})
    mean = ops.balanced_pyramid_gather(net, levels, "mean", REFINE_LEVEL)
    refined = REFINEMENTS[refinement](net, mean)
    outputs = ops.balanced_pyramid_scatter(
        net, refined, levels, [f"y{i}" for i in range(LEVELS)], REFINE_LEVEL
    )
    feed(net, **{f"gy{i}": vectors[f"gy{i}"] for i in range(LEVELS)})
    gradients = net.AddGradientOperators(
        {output: core.BlobReference(f"gy{i}") for i, output in enumerate(outputs)}
    )
    workspace.RunNetOnce(net)

    for i in range(LEVELS):
        assert relative_error(fetch(outputs[i]), vectors[f"y{i}"]) <= TOLERANCE
        assert relative_error(fetch(gradients[f"x{i}"]), vectors[f"gx{i}"]) <= TOLERANCE
    for name in parameters:
        if name == "param/refine.phi.conv.bias":
            # It shifts all logits of a query alike, so its gradient is 0 but for rounding.
            assert np.abs(fetch(gradients[name])).max() < 1e-5
        else:
            expected = vectors["g" + name]
            assert relative_error(fetch(gradients[name]), expected) <= TOLERANCE


def conv(net, x, name, kernel):
    blobs = [x, f"param/refine.{name}.weight", f"param/refine.{name}.bias"]
    return net.Conv(blobs, name, kernel=kernel, pad=kernel // 2)


def conv_refinement(net, mean):
    return net.Relu(conv(net, mean, "conv", 3), "refined")


def non_local_refinement(net, mean):
    weights = {
        part: [f"param/refine.{name}.conv.{kind}" for kind in ("weight", "bias")]
        for part, name in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("out", "conv_out"))
    }
    return ops.non_local_block(net, mean, "refined", **weights, use_scale=USE_SCALE)


USE_SCALE = False  # as BFP makes its NonLocal2D
REFINEMENTS = {
    "none": lambda net, mean: mean,
    "conv": conv_refinement,
    "non_local": non_local_refinement,
}


def new_net(**blobs):
    """Return a net whose external inputs are `blobs`, fed to a fresh workspace."""
    workspace.ResetWorkspace()
    net = core.Net("vectors")
    feed(net, **blobs)
    return net


def feed(net, **blobs):
    for name, array in blobs.items():
        workspace.FeedBlob(name, array)
        net.AddExternalInput(name)


def fetch(blob):
    return workspace.FetchBlob(str(blob))
