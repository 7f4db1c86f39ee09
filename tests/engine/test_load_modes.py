"""What a training takes from TRAIN.WEIGHTS (LIBRA.TRAIN.LOAD), and what a resumed run needs."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
from caffe2.python import workspace
from squares import write_tiny_rcnn_config

from detectron_ext import config as configuration
from detectron_ext.data.coco_classes import COCO_CLASSES
from detectron_ext.engine.checkpoints import checkpoint_path
from detectron_ext.engine.class_rows import ClassLayer, transferred
from detectron_ext.engine.parameters import load_parameters, save_parameters
from detectron_ext.engine.start_report import shortened
from detectron_ext.engine.start_weights import load_start_weights, start_from
from detectron_ext.engine.train import train
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import WeightsError
from detectron_ext.modeling import build_model

_KEY = "LIBRA.TRAIN.LOAD"
_CLASSES = ["__background__", "square", "disc"]
_ANCHORS = 9  # of one position, of the tiny RetinaNet
_SOFTMAX = ("RETINANET.SOFTMAX", "True")
_BOX_OF_EACH_CLASS = ("RETINANET.CLASS_SPECIFIC_BBOX", "True")


def _initialised(config, train=True):
    workspace.ResetWorkspace()
    model = build_model(config, train=train)
    workspace.RunNetOnce(model.param_init_net)
    return model


def _values(model):
    return {str(name): workspace.FetchBlob(str(name)).copy() for name in model.params}


def _write_random(config, path, classes=None):
    """Write the parameters of a model, each value another, and return them."""
    rng = np.random.default_rng(0)
    blobs = {
        name: rng.normal(size=value.shape).astype(np.float32)
        for name, value in _values(_initialised(config)).items()
    }
    write_weights(path, Weights(blobs, None, classes))
    return blobs


def _started(config, path, *overrides, classes=None):
    """Return a model's initial values, and those after it loaded a file."""
    model = _initialised(config("TRAIN.WEIGHTS", path, *overrides))
    before = _values(model)
    load_start_weights(model, classes)
    return before, _values(model)


def _messages(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("detectron_ext")]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "start.pkl")


# ---- Another number of classes ----


def test_other_classes_under_strict_are_an_error_that_names_the_key(tiny_config, path):
    _write_random(tiny_config(), path)
    with pytest.raises(WeightsError) as raised:
        _started(tiny_config, path, "MODEL.NUM_CLASSES", 5)
    message = str(raised.value)
    assert f"weights {path} do not fit the model: retnet_cls_pred_fpn3_w is (18, " in message
    assert f": {_KEY} matching starts such layers anew, and matching_names also" in message
    assert "\n" not in message


def test_a_test_does_not_name_a_key_of_training(tiny_config, path):
    _write_random(tiny_config(), path)
    config = tiny_config("MODEL.NUM_CLASSES", 5)
    with pytest.raises(WeightsError, match="do not fit the model") as raised:
        load_parameters(_initialised(config, train=False), path)
    assert _KEY not in str(raised.value)


def test_matching_starts_the_class_layers_anew_and_lists_them(tiny_config, path, caplog):
    blobs = _write_random(tiny_config(), path)
    with caplog.at_level(logging.INFO, "detectron_ext"):
        before, after = _started(tiny_config, path, "MODEL.NUM_CLASSES", 5, _KEY, "matching")
    anew = {"retnet_cls_pred_fpn3_w", "retnet_cls_pred_fpn3_b"}
    for name, value in after.items():
        np.testing.assert_array_equal(value, (before if name in anew else blobs)[name])
    listed, loaded = _messages(caplog)
    assert listed.startswith(f"initial values instead of those in {path}, whose shapes do not fit:")
    assert "retnet_cls_pred_fpn3_w is (18, 64, 3, 3), the model needs (36, 64, 3, 3)" in listed
    assert loaded == f"loaded {len(after) - 2} parameters from {path}"


def test_a_layer_starts_anew_as_a_whole(tiny_rcnn_config, path):
    """The bias of fc6 has its shape, but belongs to weights of another shape."""
    _write_random(tiny_rcnn_config(), path)
    resolution = ("FAST_RCNN.ROI_XFORM_RESOLUTION", 5)
    before, after = _started(tiny_rcnn_config, path, *resolution, _KEY, "matching")
    for name in ("fc6_w", "fc6_b"):
        np.testing.assert_array_equal(after[name], before[name])
    assert not np.array_equal(after["fc7_b"], before["fc7_b"])


@pytest.mark.parametrize("settings", [(), _SOFTMAX, _BOX_OF_EACH_CLASS])
def test_rows_of_the_same_class_are_kept_by_name(tiny_config, path, caplog, settings):
    blobs = _write_random(tiny_config(*settings), path, _CLASSES)
    classes = ["__background__", "star", "disc", "ring", "square"]
    options = (*settings, "MODEL.NUM_CLASSES", 5, _KEY, "matching_names")
    with caplog.at_level(logging.INFO, "detectron_ext"):
        before, after = _started(tiny_config, path, *options, classes=classes)
    layers = {"retnet_cls_pred_fpn3": 1, "retnet_bbox_pred_fpn3": 4}
    if settings != _BOX_OF_EACH_CLASS:
        del layers["retnet_bbox_pred_fpn3"]
    for layer, size in layers.items():
        hidden = 0 if settings == _SOFTMAX else 1  # a sigmoid has no background
        for name in (layer + "_w", layer + "_b"):
            new, old, initial = (
                values[name].reshape((_ANCHORS, -1, size) + values[name].shape[1:])
                for values in (after, blobs, before)
            )
            for number, named in enumerate(classes[hidden:]):
                if named in _CLASSES:
                    expected = old[:, _CLASSES[hidden:].index(named)]
                else:
                    expected = initial[:, number]
                np.testing.assert_array_equal(new[:, number], expected)
    assert (
        f"classes by name: rows taken of disc, square; initial values for star, ring; not used of "
        f"{path}: none"
    ) in _messages(caplog)


def test_rows_of_faster_rcnn_are_kept_by_name_with_the_background(tiny_rcnn_config, path):
    blobs = _write_random(tiny_rcnn_config(), path, ["background", "square", "disc"])
    classes = ["__background__", "disc", "star", "square"]
    options = ("MODEL.NUM_CLASSES", 4, _KEY, "matching_names")
    before, after = _started(tiny_rcnn_config, path, *options, classes=classes)
    for layer, size in (("cls_score", 1), ("bbox_pred", 4)):
        for suffix in ("_w", "_b"):
            new, old, initial = (
                values[layer + suffix].reshape((-1, size) + values[layer + suffix].shape[1:])
                for values in (after, blobs, before)
            )
            np.testing.assert_array_equal(new[[0, 1, 3]], old[[0, 2, 1]])
            np.testing.assert_array_equal(new[2], initial[2])


def test_names_of_the_same_number_of_classes_are_compared(tiny_config, path, caplog):
    blobs = _write_random(tiny_config(), path, ["__background__", "disc", "square"])
    name = "retnet_cls_pred_fpn3_b"
    with caplog.at_level(logging.WARNING, "detectron_ext"):
        _, by_number = _started(tiny_config, path, classes=_CLASSES)
    np.testing.assert_array_equal(by_number[name], blobs[name])
    (message,) = _messages(caplog)
    assert message == (
        f"the classes of {path} are disc, square, and those of the training data are square, disc: "
        f"classes of the same number share their rows; {_KEY} matching_names goes by the names"
    )
    _, by_name = _started(tiny_config, path, _KEY, "matching_names", classes=_CLASSES)
    swapped = blobs[name].reshape(_ANCHORS, 2)[:, ::-1].ravel()
    np.testing.assert_array_equal(by_name[name], swapped)


def test_names_of_coco_are_assumed_for_a_file_without_names(tiny_config, path, caplog):
    blobs = _write_random(tiny_config("MODEL.NUM_CLASSES", 81), path)
    classes = ["__background__", "square", "dog"]
    with caplog.at_level(logging.INFO, "detectron_ext"):
        _, after = _started(tiny_config, path, _KEY, "matching_names", classes=classes)
    name = "retnet_cls_pred_fpn3_b"
    old = blobs[name].reshape(_ANCHORS, 80)[:, COCO_CLASSES.index("dog") - 1]
    np.testing.assert_array_equal(after[name].reshape(_ANCHORS, 2)[:, 1], old)
    assert _messages(caplog)[0] == (
        f"{path} holds no class names: COCO's names are assumed, because it has COCO's 80 classes"
    )


def test_names_that_nobody_knows_are_asked_for(tiny_config, path):
    _write_random(tiny_config(), path)
    with pytest.raises(WeightsError, match="hold no class names, which .* set it to matching"):
        _started(tiny_config, path, _KEY, "matching_names", classes=_CLASSES)


def test_a_layer_that_the_names_do_not_fit_starts_anew(tiny_config, path, caplog):
    _write_random(tiny_config(), path, ["__background__", "square", "disc", "star"])
    with caplog.at_level(logging.INFO, "detectron_ext"):
        before, after = _started(tiny_config, path, _KEY, "matching_names", classes=_CLASSES)
    np.testing.assert_array_equal(after["retnet_cls_pred_fpn3_w"], before["retnet_cls_pred_fpn3_w"])
    assert "does not fit the 4 class names of the file" in "".join(_messages(caplog))
    assert "rows taken" not in "".join(_messages(caplog))


def test_rows_of_another_layout_are_not_transferred():
    layer = ClassLayer("cls_score_", 1, 1, True)
    assert transferred(layer, np.zeros((2, 3)), np.zeros((2, 4)), "ab", "ab") is None
    assert transferred(layer, np.zeros((2, 3)), np.zeros((3, 3)), "ab", "ab") is None
    assert transferred(layer, np.zeros(2), np.float32(1), "ab", "ab") is None
    assert [layer.num_classes(rows) for rows in ((), (3,))] == [0, 3]
    assert [ClassLayer("", 9, 4, False).num_classes((rows,)) for rows in (72, 73)] == [3, 0]


# ---- Another model ----


def test_a_libra_model_starts_from_plain_weights(tiny_config, path, caplog):
    blobs = _write_random(tiny_config(), path, _CLASSES)
    for mode in ("strict", "matching", "matching_names"):
        caplog.clear()
        with caplog.at_level(logging.INFO, "detectron_ext"):
            before, after = _started(
                tiny_config, path, "LIBRA.BFP.ON", "True", _KEY, mode, classes=_CLASSES
            )
        assert {name for name in after if name.startswith("bfp_")}
        for name, value in after.items():
            expected = before if name.startswith("bfp_") else blobs
            np.testing.assert_array_equal(value, expected[name])
        assert f"{path} has no bfp_* (8): they keep their initial values" in _messages(caplog)


def test_faster_rcnn_starts_from_the_backbone_of_retinanet(tmp_path, tiny_config, path, caplog):
    (tmp_path / "rcnn").mkdir()
    file = write_tiny_rcnn_config(tmp_path / "rcnn")

    def tiny_rcnn_config(*overrides):
        return configuration.load(str(file), overrides)

    blobs = _write_random(tiny_config(), path, _CLASSES)
    with pytest.raises(WeightsError, match=f"fpn_inner.*{_KEY} matching"):
        _started(tiny_rcnn_config, path)
    with caplog.at_level(logging.INFO, "detectron_ext"):
        before, after = _started(tiny_rcnn_config, path, _KEY, "matching", classes=_CLASSES)
    body = {name for name in after if name.startswith(("conv1", "res"))}
    assert len(body) > 90
    for name, value in after.items():
        np.testing.assert_array_equal(value, (blobs if name in body else before)[name])
    messages = "\n".join(_messages(caplog))
    assert "has no conv_rpn_fpn3_w, conv_rpn_fpn3_b, rpn_* (4), fc6_w, fc6_b" in messages
    assert "not used: fpn_6_w, fpn_6_b, fpn_7_w, fpn_7_b, retnet_* (20)" in messages
    save_parameters(_initialised(tiny_rcnn_config()), path, None)
    assert not any(name.startswith("retnet") for name in read_weights(path).blobs)


def test_unused_blobs_under_strict_are_kept_and_listed(tiny_config, path, caplog):
    blobs = _write_random(tiny_config(), path)
    write_weights(path, Weights({**blobs, "fc1000_w": np.ones(2, np.float32)}, None, _CLASSES))
    model = _initialised(tiny_config("TRAIN.WEIGHTS", path))
    with caplog.at_level(logging.INFO, "detectron_ext"):
        load_start_weights(model, _CLASSES)
    assert f"{path}: not used, but kept in the weights that are saved: fc1000_w" in (
        _messages(caplog)
    )
    save_parameters(model, path, None)
    assert "fc1000_w" in read_weights(path).blobs


def test_weights_of_which_nothing_fits_are_refused(tiny_config, path):
    write_weights(path, Weights({"conv1_w": np.zeros(3, np.float32)}, None, None))
    with pytest.raises(WeightsError, match="do not fit the model: conv1_w is"):
        _started(tiny_config, path, _KEY, "matching")


def test_layers_that_stay_random_and_frozen_are_a_warning(tiny_config, path, caplog):
    blobs = _write_random(tiny_config(), path)
    kept = {name: blob for name, blob in blobs.items() if not name.startswith("conv1_")}
    write_weights(path, Weights(kept, None, _CLASSES))
    for freeze_at, count in ((2, 1), (0, 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "detectron_ext"):
            _started(tiny_config, path, "TRAIN.FREEZE_AT", freeze_at, classes=_CLASSES)
        assert len(_messages(caplog)) == count
        for message in _messages(caplog):
            assert message.startswith("conv1_* (3) keep their initial values and are not trained")


def test_names_are_shortened_only_where_the_beginning_means_no_other():
    among = ["a_x_w", "a_x_b", "a_x_s", "a_y_w", "b_w", "c_w", "c_b", "c_s"]
    names = ["a_x_w", "a_x_b", "a_x_s", "b_w", "c_w", "c_b", "c_s"]
    assert shortened(names, among) == "a_x_* (3), b_w, c_* (3)"
    assert shortened(["conv"], ["conv", "conv_w"]) == "conv"


# ---- Momenta ----


def test_a_training_does_not_start_with_momenta_of_another_run(tiny_config, path, caplog):
    blobs = _write_random(tiny_config(), path)
    momenta = {f"{name}_momentum": 100 * blob for name, blob in blobs.items()}
    write_weights(path, Weights({**blobs, **momenta}, None, _CLASSES))
    with caplog.at_level(logging.INFO, "detectron_ext"):
        _started(tiny_config, path, classes=_CLASSES)
    assert np.abs(workspace.FetchBlob("fpn_6_w_momentum")).max() == 0
    unused = f"{path}: {len(momenta)} momenta not used; only a resumed run needs them"
    assert unused in _messages(caplog)


def test_momenta_of_another_shape_do_not_matter_to_a_start(tiny_config, path):
    """As after deleting layers by hand."""
    blobs = _write_random(tiny_config(), path)
    del blobs["retnet_cls_pred_fpn3_w"]
    write_weights(
        path, Weights({**blobs, "retnet_cls_pred_fpn3_w_momentum": np.ones(3)}, None, None)
    )
    train(tiny_config("TRAIN.WEIGHTS", path, "SOLVER.MAX_ITER", 1))


@pytest.mark.parametrize(
    "name, value, fault",
    [
        ("fpn_6_w_momentum", np.ones(3, np.float32), r"do not fit .*fpn_6_w_momentum is \(3,\)"),
        ("fpn_6_w", np.ones(3, np.float32), r"do not fit the model: fpn_6_w is \(3,\)"),
        ("fpn_6_b_momentum", np.full(64, np.nan), "not finite in 1 of .*, fpn_6_b_momentum"),
        ("fpn_6_b", np.full(64, 1e300), "not finite in 1 of .*, fpn_6_b:"),
    ],
)
def test_all_that_a_resumed_run_loads_is_checked(tiny_config, name, value, fault):
    config = tiny_config("SOLVER.MAX_ITER", 4)
    folder = os.path.dirname(train(config))
    os.remove(os.path.join(folder, "model_final.pkl"))
    checkpoint = checkpoint_path(folder, 2)
    stored = read_weights(checkpoint)
    write_weights(checkpoint, stored._replace(blobs={**stored.blobs, name: value}))
    with pytest.raises(WeightsError, match=fault):
        train(config)


def test_weights_without_momenta_cannot_be_resumed(tiny_config, path):
    _write_random(tiny_config(), path)
    with pytest.raises(WeightsError, match="lack 165 of .* 165 momenta.*: start from this file w"):
        load_parameters(_initialised(tiny_config()), path)


# ---- Fine-tuning from end to end ----


def _other_classes(folder, names):
    """Give the data set of a folder more classes, of which it has no boxes."""
    annotations = folder / "squares" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    annotations.write_text(json.dumps(content))


def test_a_detector_is_fine_tuned_on_other_classes(tiny_config, tmp_path, caplog):
    trained = train(tiny_config("SOLVER.MAX_ITER", 2))
    _other_classes(tmp_path, ["disc", "square", "star"])
    options = ("MODEL.NUM_CLASSES", 4, "TRAIN.WEIGHTS", trained, "SOLVER.MAX_ITER", 2)
    options += ("OUTPUT_DIR", str(tmp_path / "fine"), _KEY, "matching_names")
    with caplog.at_level(logging.INFO, "detectron_ext"):
        fine = read_weights(train(tiny_config(*options)))
    assert fine.classes == ["__background__", "disc", "square", "star"]
    assert fine.blobs["retnet_cls_pred_fpn3_b"].shape == (27,)
    assert (
        f"classes by name: rows taken of disc, square; initial values for star; not used of "
        f"{trained}: none"
    ) in _messages(caplog)


def test_other_values_than_zero_in_a_file_of_doubles_are_taken(tiny_config, path):
    blobs = _write_random(tiny_config(), path)
    doubles = {name: blob.astype(np.float64) for name, blob in blobs.items()}
    model = _initialised(tiny_config())
    start_from(model, Weights(doubles, None, None), path)
    np.testing.assert_array_equal(workspace.FetchBlob("conv1_w"), blobs["conv1_w"])
