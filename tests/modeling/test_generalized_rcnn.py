"""Two-stage detectors with a small network: their graphs, and that these run in both directions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from caffe2.python import workspace

from detectron_ext import config as configuration
from detectron_ext import ops
from detectron_ext.data.minibatch import image_blobs
from detectron_ext.errors import ConfigError
from detectron_ext.geometry.roi_levels import distribute_rois
from detectron_ext.modeling import build_model
from detectron_ext.sampling.minibatch_targets import minibatch_targets

TINY = str(Path(__file__).resolve().parents[2] / "configs" / "faster_rcnn_R-36-tiny.yaml")
SIZE, IMAGES = 96, 2
LARGE = np.float32([[0, 0, 45, 45], [0, 0, 90, 90]])  # belong to coarser levels than the finest

FAST: list = ["MODEL.FASTER_RCNN", "False"]
RPN_ONLY = [*FAST, "MODEL.RPN_ONLY", "True"]
RES5_HEAD = ["FAST_RCNN.ROI_BOX_HEAD", "ResNet.add_ResNet_roi_conv5_head"]
# A body without a pyramid. Its last stage runs on each region.
C4 = [
    "MODEL.CONV_BODY", "ResNet.add_ResNet36_tiny_conv4_body",
    "FPN.FPN_ON", "False", "FPN.MULTILEVEL_RPN", "False", "FPN.MULTILEVEL_ROIS", "False",
    *RES5_HEAD, "FAST_RCNN.ROI_XFORM_RESOLUTION", "14", "RPN.SIZES", "(16, 32)",
]  # fmt: skip
C5 = ["MODEL.CONV_BODY", "ResNet.add_ResNet36_tiny_conv5_body", "RPN.STRIDE", "32"]
P2_ALONE = [
    "MODEL.CONV_BODY", "FPN.add_fpn_ResNet36_tiny_conv5_P2only_body",
    "FPN.RPN_MIN_LEVEL", "2", "FPN.RPN_MAX_LEVEL", "2",
    "FPN.ROI_MIN_LEVEL", "2", "FPN.ROI_MAX_LEVEL", "2",
]  # fmt: skip
ABOVE_P5 = ["FPN.RPN_MIN_LEVEL", "6", "FPN.ROI_MIN_LEVEL", "6", "FPN.ROI_MAX_LEVEL", "6"]
POOLED = ["FAST_RCNN.ROI_XFORM_METHOD", "RoIPoolF"]


def load(*overrides):
    small = ["TRAIN.BATCH_SIZE_PER_IM", "16", "FPN.ROI_CANONICAL_SCALE", "32"]
    return configuration.load(TINY, ["MODEL.NUM_CLASSES", "4", *small, *overrides])


def arguments_of(model, output):
    op = next(op for op in model.net.Proto().op if output in op.output)
    return op, {arg.name: arg.f or arg.i or arg.s for arg in op.arg}


def training_blobs(config, objects=3):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (IMAGES, objects, 2)).astype(np.float32)
    samples = [
        SimpleNamespace(
            image=np.zeros((SIZE, SIZE, 3), np.uint8),
            boxes=np.hstack((corner, corner + np.float32([24, 30]))),
            classes=np.arange(objects, dtype=np.int32) % 3 + 1,
            is_crowd=np.zeros(objects, bool),
            proposals=np.vstack((np.hstack((corner + 2, corner + 22)), LARGE)),
        )
        for corner in corners
    ]
    data = rng.normal(0, 50, (IMAGES, 3, SIZE, SIZE)).astype(np.float32)
    im_info = np.tile(np.float32([SIZE, SIZE, 1]), (IMAGES, 1))
    targets = minibatch_targets(config)(samples, SIZE, SIZE, rng)
    return {"data": data, "im_info": im_info, **targets}


def run(config, train, blobs):
    """Build a model, run its net once on the blobs, and return the model."""
    model = build_model(config, train)
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    for name, value in blobs.items():
        workspace.FeedBlob(name, value)
    if train:
        workspace.FeedBlob("lr", np.float32([0.01]))
    workspace.RunNetOnce(model.net)
    return model


RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_bbox"}
HEAD_LOSSES = {"loss_cls", "loss_bbox"}
DETECTORS = {
    "faster": ([], RPN_LOSSES | HEAD_LOSSES),
    "faster-C4": (C4, RPN_LOSSES | HEAD_LOSSES),
    "faster-pooled": (POOLED, RPN_LOSSES | HEAD_LOSSES),
    "fast": (FAST, HEAD_LOSSES),
    "fast-C4": ([*FAST, *C4], HEAD_LOSSES),
    "rpn": (RPN_ONLY, RPN_LOSSES),
    "rpn-C4": ([*RPN_ONLY, *C4], RPN_LOSSES),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_training_step_changes_every_parameter(name):
    overrides, kinds = DETECTORS[name]
    config = load(*overrides)
    model = run(config, True, training_blobs(config))
    assert {loss.split("_fpn")[0] for loss in model.losses} == kinds
    losses = {loss: float(workspace.FetchBlob(loss)) for loss in model.losses}
    assert np.isfinite(list(losses.values())).all()
    for kind in kinds:
        assert sum(value for loss, value in losses.items() if loss.startswith(kind)) > 0
    assert len(model.trainable_params()) == len(model.params)
    for param in model.params:
        assert workspace.FetchBlob(f"{param}_momentum").any(), param


def test_a_training_step_without_objects_is_finite():
    config = load()
    model = run(config, True, training_blobs(config, objects=0))
    assert np.isfinite([workspace.FetchBlob(loss) for loss in model.losses]).all()
    assert (workspace.FetchBlob("labels_int32") == 0).all()


@pytest.mark.parametrize("overrides", [[], C4, FAST, [*FAST, *C4]], ids=str)
def test_every_region_gets_a_class_and_boxes(overrides):
    config = load(*overrides)
    blobs = {"data": training_blobs(config)["data"][:1], "im_info": np.float32([[SIZE, SIZE, 1]])}
    if not config.RPN.RPN_ON:
        rois = np.float32([[0, 5, 5, 40, 60], [0, 0, 0, 20, 20], [0, 1, 1, 90, 90]])
        blobs.update(rois=rois, **(distribute_rois(rois, config) if config.FPN.FPN_ON else {}))
    run(config, False, blobs)
    rois, probabilities, boxes = map(workspace.FetchBlob, ["rois", "cls_prob", "bbox_pred"])
    assert len(rois) > 2
    assert probabilities.shape == (len(rois), 4)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert boxes.shape == (len(rois), 16)


def test_no_regions_give_no_detections():
    config = load(*FAST)
    rois = np.zeros((0, 5), np.float32)
    data = np.zeros((1, 3, SIZE, SIZE), np.float32)
    run(config, False, {"data": data, "rois": rois, **distribute_rois(rois, config)})
    assert workspace.FetchBlob("cls_prob").shape == (0, 4)
    assert workspace.FetchBlob("bbox_pred").shape == (0, 16)


def test_a_pyramid_with_only_the_finest_level_runs_at_any_size():
    config = load(*P2_ALONE)
    image = np.zeros((50, 83, 3), np.uint8)
    blobs = image_blobs([SimpleNamespace(image=image, scale=1.0)], config, train=False)
    model = run(config, False, blobs)
    assert arguments_of(model, "conv_rpn_fpn2")[0].input[0] == "fpn_res2_1_sum_gn"
    assert len(workspace.FetchBlob("cls_prob")) > 2
    losses = run(config, True, training_blobs(config)).losses
    assert losses == ["loss_rpn_cls_fpn2", "loss_rpn_bbox_fpn2", "loss_cls", "loss_bbox"]


@pytest.mark.parametrize("overrides", [RPN_ONLY, [*RPN_ONLY, *C4]], ids=["pyramid", "C4"])
def test_an_rpn_only_model_gives_its_best_proposals(overrides):
    config = load(*overrides, "TEST.RPN_POST_NMS_TOP_N", "20")
    data = training_blobs(config)["data"][:1]
    run(config, False, {"data": data, "im_info": np.float32([[SIZE, SIZE, 1]])})
    rois, scores = workspace.FetchBlob("rpn_rois"), workspace.FetchBlob("rpn_roi_probs")
    assert rois.shape == (20, 5) and scores.shape == (20,)
    assert (np.diff(scores) <= 0).all()


def test_regions_keep_their_order_through_the_pyramid():
    """The features of each region equal those pooled from its own level only."""
    config = load(*FAST)
    rois = np.float32([[0, 0, 0, 90, 90], [0, 8, 8, 20, 24], [0, 4, 0, 60, 70], [0, 3, 9, 30, 30]])
    blobs = {"data": training_blobs(config)["data"][:1], "rois": rois}
    levels = distribute_rois(rois, config)
    assert len({len(levels[f"rois_fpn{level}"]) for level in (3, 4, 5)}) > 1
    run(config, False, {**blobs, **levels})
    together = workspace.FetchBlob("roi_feat")
    for index in range(len(rois)):
        alone = rois[index : index + 1]
        run(config, False, {**blobs, "rois": alone, **distribute_rois(alone, config)})
        np.testing.assert_allclose(together[index], workspace.FetchBlob("roi_feat")[0], atol=1e-6)


@pytest.mark.parametrize("head", ["add_roi_Xconv1fc_head", "add_roi_Xconv1fc_gn_head"])
def test_convolutional_heads_have_their_layers(head):
    options = ["FAST_RCNN.CONV_HEAD_DIM", "32", "FAST_RCNN.NUM_STACKED_CONVS", "2"]
    config = load("FAST_RCNN.ROI_BOX_HEAD", f"fast_rcnn_heads.{head}", *options)
    model = run(config, True, training_blobs(config))
    names = set(map(str, model.params))
    convolutions = {"head_conv1_w", "head_conv2_w", "fc6_w", "fc6_b"}
    norms = {f"head_conv{i}_gn_{kind}" for i in (1, 2) for kind in "sb"}
    biases = {"head_conv1_b", "head_conv2_b"}
    assert convolutions <= names and "fc7_w" not in names
    assert (norms <= names) == ("gn" in head) != (biases <= names)
    assert workspace.FetchBlob("fc6_w").shape == (256, 32 * 7 * 7)


def test_every_shipped_configuration_builds():
    folder = Path(TINY).parent
    paths = sorted(
        set(folder.glob("*/*faster_rcnn*.yaml"))
        - set(folder.glob("sweeps/*"))  # lists of runs
        - set(folder.glob("mmdet/*"))  # with mmdetection's names
    )
    assert len(paths) >= 13
    for path in paths:
        # Those of configs/finetune leave the classes to the user.
        own = ["MODEL.NUM_CLASSES", 3] if path.parent.name == "finetune" else []
        config = configuration.load(str(path), own)
        name, libra = path.stem, config.LIBRA
        has_all = name.startswith("libra_")
        assert (has_all or name.endswith("_bfp")) == libra.BFP.ON
        assert (has_all or name.endswith("_bl1")) == libra.BALANCED_L1.ON
        is_balanced = libra.SAMPLER.NEGATIVE == "iou_balanced"
        assert is_balanced == (has_all or name.endswith("_sampler"))
        assert name in config.OUTPUT_DIR and path.parent.name in config.OUTPUT_DIR
        assert "loss_bbox" in build_model(config, train=True).losses


def test_class_agnostic_regression_predicts_two_boxes_per_region():
    config = load("MODEL.CLS_AGNOSTIC_BBOX_REG", "True")
    run(config, True, training_blobs(config))
    assert workspace.FetchBlob("bbox_pred").shape[1] == 8


def test_balanced_pyramid_feeds_rpn_and_head():
    model = build_model(load("LIBRA.BFP.ON", "True"), train=True)
    rpn, _ = arguments_of(model, "conv_rpn_fpn6")
    assert rpn.input[0] == "bfp_fpn6"
    head, _ = arguments_of(model, "roi_feat_fpn5")
    assert head.input[0] == "bfp_fpn5"
    if ops.native_library_loaded():
        _, gather = arguments_of(model, "bfp_gathered")
        assert gather["refine_level"] == 1  # P4 of P3 to P6


def test_libra_parts_apply_to_the_head_and_not_to_the_rpn():
    if not ops.native_library_loaded():
        pytest.skip("Python operators hide their names and arguments; needs the native library")
    model = build_model(
        load(
            "LIBRA.BALANCED_L1.ON", "True", "LIBRA.BALANCED_L1.GAMMA", "2.0",
            "LIBRA.LOSS_WEIGHTS.CLS", "3.0", "LIBRA.LOSS_WEIGHTS.BBOX", "0.5",
        ),
        train=True,
    )  # fmt: skip
    box, box_arguments = arguments_of(model, "loss_bbox")
    assert box.type == "BalancedL1Loss"
    expected = {"alpha": 0.5, "gamma": 2.0, "beta": 1.0, "scale": 0.5, "formula": b"continuous"}
    assert box_arguments == expected
    assert arguments_of(model, "loss_cls")[1]["scale"] == 3.0
    rpn_box, rpn_arguments = arguments_of(model, "loss_rpn_bbox_fpn3")
    assert rpn_box.type == "SmoothL1Loss"
    assert rpn_arguments == {"beta": pytest.approx(1 / 9), "scale": 1.0}
    # 4 images with 256 anchors each.
    assert arguments_of(model, "loss_rpn_cls_fpn3")[1]["scale"] == pytest.approx(1 / 1024)


def test_a_frozen_body_keeps_its_parameters():
    model = build_model(load("TRAIN.FREEZE_CONV_BODY", "True"), train=True)
    trained = {str(p) for p in model.trainable_params()}
    assert {"conv_rpn_fpn3_w", "fc6_w", "cls_score_w"} <= trained
    assert not [name for name in trained if name.startswith(("res", "conv1", "fpn"))]


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["MODEL.TYPE", "rfcn"], "MODEL.TYPE 'rfcn'"),
        (["MODEL.CONV_BODY", "VGG16.add_VGG16_conv5_body"], "MODEL.CONV_BODY"),
        (["FAST_RCNN.ROI_BOX_HEAD", "VGG16.add_VGG16_roi_fc_head"], "FAST_RCNN.ROI_BOX_HEAD"),
        (["FAST_RCNN.ROI_XFORM_METHOD", "RoIPool"], "FAST_RCNN.ROI_XFORM_METHOD"),
        (["MODEL.MASK_ON", "True"], "MODEL.MASK_ON .*detectron_ext.upstream"),
        (["MODEL.KEYPOINTS_ON", "True"], "MODEL.KEYPOINTS_ON .*detectron_ext.upstream"),
        (["FPN.FPN_ON", "False"], "FPN.FPN_ON to True"),
        (["MODEL.CONV_BODY", "ResNet.add_ResNet50_conv4_body"], "FPN.FPN_ON to False"),
        ([*P2_ALONE, "FPN.FPN_ON", "False"], "P2only_body is a pyramid: set FPN.FPN_ON to True"),
        (P2_ALONE[:2], "the body has pyramid levels 3 and the heads need 4, 5, 6"),
        (["FPN.MULTILEVEL_RPN", "False"], "FPN.MULTILEVEL_RPN"),
        (["FPN.MULTILEVEL_ROIS", "False"], "FPN.MULTILEVEL_ROIS"),
        ([*C4, "RPN.STRIDE", "8"], "RPN.STRIDE 8 .* set it to 16"),
        (RES5_HEAD, "FAST_RCNN.ROI_BOX_HEAD .* MODEL.CONV_BODY FPN.* choose a conv4 body"),
        ([*C4, *C5], "FAST_RCNN.ROI_BOX_HEAD .*_conv5_body has res5 already"),
        ([*C4, "FAST_RCNN.ROI_XFORM_RESOLUTION", "10"], "ROI_XFORM_RESOLUTION 10"),
        ([*C4, "LIBRA.BFP.ON", "True"], "LIBRA.BFP.ON .*conv4_body gives P4 alone"),
        ([*P2_ALONE, "LIBRA.BFP.ON", "True"], "LIBRA.BFP.ON .*P2only_body gives P2 alone"),
        (["LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_LEVEL", "2"], "REFINE_LEVEL 2"),
        (["FPN.ROI_MAX_LEVEL", "7"], "need 6"),
        (ABOVE_P5, "set FPN.RPN_MIN_LEVEL or FPN.ROI_MIN_LEVEL .6. to at most 5"),
        (["RESNETS.RES5_DILATION", "2"], "RESNETS.RES5_DILATION 2 .* without a pyramid"),
    ],
)
def test_unsupported_settings_are_named_in_one_line(overrides, fault):
    with pytest.raises(ConfigError, match=fault) as caught:
        build_model(load(*overrides), train=True)
    assert "\n" not in str(caught.value)
