"""Parts from outside the package in the graphs of detectors, and errors about wrong parts."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from squares import REPOSITORY

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.modeling import build_model
from detectron_ext.modeling.balanced_pyramid import REFINEMENTS
from detectron_ext.modeling.bodies import BODIES, one_map
from detectron_ext.modeling.box_heads import HEADS
from detectron_ext.modeling.box_losses import BOX_LOSSES, BoxLoss, numpy_box_loss
from detectron_ext.modeling.fpn import Pyramid, add_fpn
from detectron_ext.ops import reference

pytestmark = pytest.mark.usefixtures("restored_registries")


def _config(detector, *overrides):
    path = REPOSITORY / "configs" / f"{detector}_R-36-tiny.yaml"
    return configuration.load(str(path), ["MODEL.NUM_CLASSES", 3, *overrides])


def _operators(model):
    return [op.name or op.type for op in model.net.Proto().op]


def _native(model):
    """Return the operators that are not in Python: the names of those always differ."""
    return [op for op in model.net.Proto().op if op.type != "Python"]


def _refusal(detector, *overrides, train=True):
    with pytest.raises(ConfigError) as error:
        build_model(_config(detector, *overrides), train)
    assert "\n" not in str(error.value)
    return str(error.value)


def _dense_only(model, inputs, blob_out, *, beta, scale):
    targets = model.net.StopGradient(inputs[1], blob_out + "_targets")
    difference = model.net.Sub([inputs[0], targets], blob_out + "_difference")
    return model.net.AveragedLoss(difference, blob_out)


def test_a_loss_without_a_select_form_works_for_faster_rcnn_only():
    BOX_LOSSES.register("mean")(BoxLoss(_dense_only))
    model = build_model(_config("faster_rcnn", "LIBRA.BOX_LOSS", "mean"), train=True)
    assert "loss_bbox" in [out for op in model.net.Proto().op for out in op.output]
    assert "AveragedLoss" in _operators(model)
    message = _refusal("retinanet", "LIBRA.BOX_LOSS", "mean")
    assert message.startswith("LIBRA.BOX_LOSS mean has no select form, which this detector needs")


def test_weights_of_the_box_loss_need_a_form_of_it():
    BOX_LOSSES.register("plain")(BoxLoss(_dense_only, _dense_only))
    overrides = ["LIBRA.BOX_LOSS", "plain", "LIBRA.RETINANET_WEIGHTS.BOX", "iou_balanced"]
    message = _refusal("retinanet", *overrides)
    assert message.startswith("LIBRA.BOX_LOSS plain has no weighted_select form")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("POSITIVE", "the softmax focal loss takes no weights"),
        ("BOX", "its rule also reads the sigmoid focal loss"),
    ],
)
def test_the_softmax_focal_loss_takes_no_weights(key, reason):
    key = f"LIBRA.RETINANET_WEIGHTS.{key}"
    message = _refusal("retinanet", key, "iou_balanced", "RETINANET.SOFTMAX", True)
    assert message == f"{key} iou_balanced needs RETINANET.SOFTMAX False: {reason}"


@pytest.mark.parametrize("detector, count", [("retinanet", 5), ("faster_rcnn", 1)])
def test_box_loss_has_precedence_over_balanced_l1_on(detector, count):
    """The RPN's four levels keep their smooth L1."""
    native = "SelectBalancedL1Loss" if detector == "retinanet" else "BalancedL1Loss"
    by_switch = build_model(_config(detector, "LIBRA.BALANCED_L1.ON", True), train=True)
    by_name = build_model(_config(detector, "LIBRA.BOX_LOSS", "balanced_l1"), train=True)
    assert _operators(by_switch).count(native) == count
    assert _native(by_name) == _native(by_switch)
    overrides = ["LIBRA.BALANCED_L1.ON", True, "LIBRA.BOX_LOSS", "smooth_l1"]
    plain = build_model(_config(detector), train=True)
    named = build_model(_config(detector, *overrides), train=True)
    assert _native(plain) == _native(named)


def _run_loss(form, arrays):
    """Return value and gradient of smooth L1, written in numpy."""
    smooth_l1 = numpy_box_loss(
        lambda x, beta: reference.box_losses.smooth_l1(x, beta),
        lambda x, beta: reference.box_losses.smooth_l1_slope(x, beta),
    )
    workspace.ResetWorkspace()

    class Model:
        config = _config("retinanet")
        net = core.Net("loss")
        num_gpus = 0

    for index, array in enumerate(arrays):
        workspace.FeedBlob(f"x{index}", array)
    inputs = tuple(f"x{index}" for index in range(len(arrays)))
    getattr(smooth_l1, form)(Model, inputs, "loss", beta=0.5, scale=2.0)
    gradients = Model.net.AddGradientOperators(["loss"])
    workspace.RunNetOnce(Model.net)
    return workspace.FetchBlob("loss"), workspace.FetchBlob(str(gradients["x0"]))


@pytest.mark.parametrize("rows", [0, 6])
def test_a_numpy_loss_has_the_definitions_value_and_gradient(rows):
    rng = np.random.default_rng(0)
    dense = [rng.normal(size=(max(rows, 1), 8)).astype(np.float32) for _ in range(4)]
    maps = rng.normal(size=(2, 8, 3, 3)).astype(np.float32)
    places = np.stack([rng.integers(0, n, rows) for n in (2, 5, 3, 3)], 1).astype(np.float32)
    selected = [maps, rng.normal(size=(rows, 4)).astype(np.float32), places, np.float32([3])]
    options = {"beta": 0.5, "scale": 2.0}
    one = np.ones(1, np.float32)
    for form, arrays, name in (
        ("dense", dense, "smooth_l1_loss"),
        ("select", selected, "select_smooth_l1_loss"),
    ):
        value, gradient = _run_loss(form, arrays)
        expected = getattr(reference, name)(*arrays, **options)
        expected_gradient = getattr(reference, f"{name}_gradient")(*arrays, one, **options)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)


def test_a_users_refinement_is_built_into_the_net():
    @REFINEMENTS.register("double")
    def double(model, blob, dim):
        return model.net.Scale(blob, "bfp_double", scale=2.0)

    on = ["LIBRA.BFP.ON", True, "LIBRA.BFP.REFINE_TYPE", "double"]
    assert "Scale" in _operators(build_model(_config("retinanet", *on), train=False))


def _stem_alone(model):
    blob = model.relu(model.conv("data", "only", 3, 16, 16, stride=16, pad=0))
    return one_map(str(blob), 4, 16)


def test_a_users_body_may_have_one_map():
    BODIES.register("stem")(_stem_alone)
    own = ["MODEL.CONV_BODY", "stem", "RPN.STRIDE", 16, "FPN.MULTILEVEL_RPN", False]
    own += ["FPN.MULTILEVEL_ROIS", False]
    model = build_model(_config("faster_rcnn", *own, "FPN.FPN_ON", False), train=True)
    assert "only_w" in map(str, model.params)
    assert "stem is no pyramid: set FPN.FPN_ON to False" in _refusal("faster_rcnn", *own)
    message = _refusal("faster_rcnn", *own, "FPN.FPN_ON", False, "TRAIN.FREEZE_AT", 2)
    assert message == (
        "TRAIN.FREEZE_AT 2 freezes stages, and MODEL.CONV_BODY stem has none: set it to 0"
    )
    own += ["FPN.FPN_ON", False, "FAST_RCNN.ROI_BOX_HEAD", "ResNet.add_ResNet_roi_conv5_head"]
    assert _refusal("faster_rcnn", *own).endswith(
        "is the last stage of a ResNet, and MODEL.CONV_BODY stem is no ResNet: choose another head"
    )
    assert "need 3, 5, 6, 7" in _refusal("retinanet", "MODEL.CONV_BODY", "stem")


def test_a_body_may_freeze_stages_itself():
    def frozen(model):
        return _stem_alone(model)

    frozen.freezes_stages = True
    BODIES.register("frozen")(frozen)
    own = ["MODEL.CONV_BODY", "frozen", "RPN.STRIDE", 16, "FPN.FPN_ON", False]
    build_model(_config("faster_rcnn", *own, "TRAIN.FREEZE_AT", 2), train=True)


def test_a_users_head_is_built_into_the_net():
    @HEADS.register("mean")
    def add_mean(model, pyramid):
        from detectron_ext.modeling.roi_features import add_roi_features

        blob = add_roi_features(model, pyramid, "roi_feat")
        return model.net.AveragePool(blob, "roi_mean", global_pooling=True), pyramid.dim

    model = build_model(_config("faster_rcnn", "FAST_RCNN.ROI_BOX_HEAD", "mean"), train=False)
    assert "AveragePool" in _operators(model)
    message = _refusal("faster_rcnn", "FAST_RCNN.ROI_BOX_HEAD", "meen")
    assert message.startswith("FAST_RCNN.ROI_BOX_HEAD must be one of fast_rcnn_heads.add_roi_2mlp")
    assert message.endswith("given 'meen' (str); did you mean mean?")


def test_a_long_list_of_names_is_shortened_to_the_nearest():
    name = "FPN.add_fpn_ResNet50_conv_body"
    message = _refusal("retinanet", "MODEL.CONV_BODY", name)
    assert message.startswith("MODEL.CONV_BODY must be one of 28 names such as FPN.add_fpn_ResNet")
    assert message.endswith("did you mean FPN.add_fpn_ResNet50_conv5_body?")


def _formula(values):
    return lambda difference, beta: values(difference)


@pytest.mark.parametrize(
    "penalty, slope, fault",
    [
        (lambda d: d[:, :3], np.sign, "the penalty of LIBRA.BOX_LOSS broken must have the shape"),
        (np.abs, np.sum, "the slope of LIBRA.BOX_LOSS broken must have the shape of the diff"),
        (
            np.abs,
            lambda d: d / d,
            "the slope of LIBRA.BOX_LOSS broken must be finite: it is not at",
        ),
    ],
)
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_formulas_are_checked_when_the_model_is_built(detector, penalty, slope, fault):
    BOX_LOSSES.register("broken")(numpy_box_loss(_formula(penalty), _formula(slope)))
    assert _refusal(detector, "LIBRA.BOX_LOSS", "broken").startswith(fault)


def test_a_form_must_return_a_blob():
    BOX_LOSSES.register("nothing")(BoxLoss(lambda *inputs, beta, scale: None))
    message = _refusal("faster_rcnn", "LIBRA.BOX_LOSS", "nothing")
    assert message == (
        "the dense form of LIBRA.BOX_LOSS nothing must return a blob, given None (NoneType)"
    )


def _half_the_channels(model, blob, dim):
    fills = {"weight_init": ("XavierFill", {}), "bias_init": ("ConstantFill", {"value": 0.0})}
    return model.conv(blob, "bfp_half", dim, dim // 2, 1, **fills)


@pytest.mark.parametrize(
    "refine, fault",
    [
        (
            _half_the_channels,
            "its input's shape: an input of shape (1, 64, 8, 8) gives (1, 32, 8",
        ),
        (
            lambda model, blob, dim: model.net.MaxPool(blob, "bfp_pool", kernel=2, stride=2),
            "its input's shape: an input of shape (1, 64, 8, 8) gives (1, 64, 4, 4)",
        ),
        (lambda model, blob, dim: None, "must return a blob, given None (NoneType)"),
    ],
)
def test_a_refinement_of_another_shape_is_refused(refine, fault):
    REFINEMENTS.register("odd")(refine)
    message = _refusal("retinanet", "LIBRA.BFP.ON", True, "LIBRA.BFP.REFINE_TYPE", "odd")
    assert message.startswith("LIBRA.BFP.REFINE_TYPE odd must return a blob") and fault in message


def test_a_refinement_in_python_is_accepted():
    """Caffe2 does not know the shape of its output; the net checks it when it runs."""

    @REFINEMENTS.register("python")
    def refine(model, blob, dim):
        return model.net.Python(lambda inputs, outputs: outputs[0].feed(inputs[0].data))(
            [blob], ["bfp_python"]
        )

    on = ["LIBRA.BFP.ON", True, "LIBRA.BFP.REFINE_TYPE", "python"]
    build_model(_config("retinanet", *on), train=False)


@pytest.mark.parametrize(
    "body, fault",
    [
        (lambda model: None, "MODEL.CONV_BODY odd must return a Pyramid, given None (NoneType)"),
        (
            lambda model: add_fpn(model, [("res2", 64), ("res3", 128)]),
            "MODEL.CONV_BODY odd must give add_fpn 4 maps, of strides 4, 8, 16 and 32: it gives [(",
        ),
        (
            lambda model: Pyramid(("fpn_3", "fpn_4"), (3,), 256),
            "MODEL.CONV_BODY odd must return a Pyramid with one level for each blob",
        ),
    ],
)
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_a_body_that_returns_no_pyramid_is_refused(detector, body, fault):
    BODIES.register("odd")(body)
    assert _refusal(detector, "MODEL.CONV_BODY", "odd").startswith(fault)


def test_a_body_with_one_level_is_refused_where_more_are_needed():
    BODIES.register("one_level")(lambda model: Pyramid(("data",), (3,), 3))
    body = ["MODEL.CONV_BODY", "one_level"]
    assert "the heads need 4, 5, 6, 7" in _refusal("retinanet", *body)
    one = ["FPN.RPN_MIN_LEVEL", 3, "FPN.RPN_MAX_LEVEL", 3, "LIBRA.BFP.ON", True]
    assert _refusal("retinanet", *body, *one).startswith(
        "LIBRA.BFP.ON needs several pyramid levels, and one_level gives P3 alone"
    )


def test_a_head_that_returns_only_a_blob_is_refused():
    HEADS.register("odd")(lambda model, pyramid: "roi_feat")
    assert _refusal("faster_rcnn", "FAST_RCNN.ROI_BOX_HEAD", "odd") == (
        "FAST_RCNN.ROI_BOX_HEAD odd must return (blob, dim), given 'roi_feat' (str)"
    )


@pytest.mark.parametrize(
    "registry, part, kind",
    [
        (BOX_LOSSES, _dense_only, "a BoxLoss"),
        (BODIES, "stem", "a function"),
        (HEADS, None, "a function"),
        (REFINEMENTS, 3, "a function"),
    ],
)
def test_a_part_of_another_kind_is_refused(registry, part, kind):
    with pytest.raises(ConfigError, match=f"^{registry.key}: 'odd' must be {kind}, given"):
        registry.register("odd")(part)
