"""A net built by upstream and one built here have the same outputs for the same weights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from caffe2.python import workspace
from small_models import LIBRA, write_config

from detectron_ext import config as configuration
from detectron_ext.data.minibatch import image_blobs, prepare_image
from detectron_ext.modeling import build_model

TOLERANCE = 1e-5


def _weights(model, rng):
    """Return weights with which every layer has an effect, also layers that start at zero."""
    weights = {}
    workspace.RunNetOnce(model.param_init_net)
    for name in map(str, model.params):
        value = workspace.FetchBlob(name)
        if name.endswith("_s"):
            value = rng.uniform(0.8, 1.2, value.shape)
        elif value.ndim == 1 or value.std() < 0.02:
            value = rng.normal(0, 0.05, value.shape)
        weights[name] = value.astype(np.float32)
    return weights


def _run(model, blobs, scope, outputs):
    for name, value in blobs.items():
        workspace.FeedBlob(scope + name, value)
    workspace.CreateNet(model.net, overwrite=True)
    workspace.RunNet(model.net)
    return {name: workspace.FetchBlob(scope + name) for name in outputs}


def _both(path, outputs):
    """Run our net and upstream's on an image whose sides are not divisible by the strides."""
    from detectron.core import config as upstream_config
    from detectron.modeling import model_builder
    from detectron.utils.blob import get_image_blob

    config = configuration.load(path)
    model = build_model(config, train=False)
    image = cv2.imread(f"{config.DATASETS_EXTRA.squares.im_dir}/1.png")[:97]
    weights = _weights(model, np.random.default_rng(3))
    inputs = image_blobs([prepare_image(image, config)], config, train=False)
    assert inputs["data"].shape == (1, 3, 128, 128)
    ours = _run(model, {**weights, **inputs}, "", outputs)
    upstream_config.merge_cfg_from_file(str(path))
    upstream_config.assert_and_infer_cfg(cache_urls=False)
    theirs = model_builder.create(config.MODEL.TYPE, train=False)
    model_builder.add_inference_inputs(theirs)
    data, _, im_info = get_image_blob(image.copy(), config.TEST.SCALE, config.TEST.MAX_SIZE)
    for name, blob in (("data", data), ("im_info", im_info)):
        np.testing.assert_array_equal(inputs[name], blob, err_msg=name)
        assert inputs[name].dtype == blob.dtype
    blobs = {**weights, "data": np.ascontiguousarray(data), "im_info": im_info}
    return ours, _run(theirs, blobs, "gpu_0/", outputs)


@pytest.mark.parametrize("libra", [{}, LIBRA], ids=["plain", "libra"])
def test_retinanet_outputs_are_the_same(cfg, tmp_path, libra):
    outputs = [f"retnet_{kind}_fpn{n}" for n in range(3, 7) for kind in ("cls_prob", "bbox_pred")]
    ours, theirs = _both(write_config(tmp_path, "retinanet", libra), outputs)
    for name in outputs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=TOLERANCE, err_msg=name)
    assert ours["retnet_cls_prob_fpn3"].std() > 0.01


@pytest.mark.parametrize("libra", [{}, LIBRA], ids=["plain", "libra"])
def test_faster_rcnn_outputs_are_the_same(cfg, tmp_path, libra):
    rpn = [f"rpn_{kind}_fpn{n}" for n in range(2, 7) for kind in ("cls_probs", "bbox_pred")]
    heads = ["rois", "cls_prob", "bbox_pred"]
    ours, theirs = _both(write_config(tmp_path, "faster_rcnn", libra), rpn + heads)
    for name in rpn:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=TOLERANCE, err_msg=name)
    # Proposals with equal scores can be in any order, so each is compared with the nearest one.
    assert len(ours["rois"]) == len(theirs["rois"]) > 100
    distances = np.abs(ours["rois"][:, None] - theirs["rois"]).max(axis=2)
    for first, second, nearest in (
        (ours, theirs, distances.argmin(axis=1)),
        (theirs, ours, distances.argmin(axis=0)),
    ):
        for name in heads:
            # A corner is a difference of numbers as large as the image, which has 128 pixels.
            atol = 10 * TOLERANCE if name == "rois" else TOLERANCE
            np.testing.assert_allclose(
                first[name], second[name][nearest], rtol=TOLERANCE, atol=atol, err_msg=name
            )
    assert ours["cls_prob"].std() > 0.01
