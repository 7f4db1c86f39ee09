"""Bad input of every kind: one line that names the thing, exit status 2, nothing lost.

The fixture ``workplace`` checks after each test that what earlier runs wrote is still the same.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from tool_runner import failure, run_tool

from detectron_ext.engine.weights_file import read_weights, write_weights


@pytest.fixture
def train(tool, tmp_path):
    """Return a function: overrides -> outcome of a short training into tmp_path/run."""
    overrides = ("SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "run")
    return lambda *more: tool("train_net", "--skip-test", *overrides, *more)


@pytest.fixture
def annotated(workplace, tmp_path):
    """Return a function: change of the annotations -> overrides that use the changed file."""

    def change(edit):
        content = json.loads((workplace.folder / "squares" / "annotations.json").read_text())
        edit(content)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(content))
        return ("DATASETS_EXTRA.squares.ann_fn", path)

    return change


@pytest.fixture
def images(workplace, tmp_path):
    """A copy of the images; a test may spoil it. Use with ``DATASETS_EXTRA.squares.im_dir``."""
    return shutil.copytree(str(workplace.images), str(tmp_path / "images"))


# Configuration


@pytest.mark.parametrize(
    "text, fault",
    [
        (None, "does not exist"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"TRAIN: [1,\nB: 2", "line 2 is not valid YAML"),
        (b"", "is empty"),
        (b"- TRAIN", "must be a map of keys"),
        (b"TRAIN: {MAX_SIZ: 3}", "unknown key TRAIN.MAX_SIZ"),
        (b"TRAIN: {MAX_SIZE: wide}", "TRAIN.MAX_SIZE in"),
        (b"_BASE_: none.yaml", "none.yaml (_BASE_ of"),
    ],
)
@pytest.mark.parametrize("name", ["train_net", "test_net", "infer_simple", "visualize_results"])
def test_a_bad_configuration_file_is_named(tmp_path, name, text, fault):
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_bytes(text)
    more = {
        "infer_simple": ("--wts", "w.pkl", "image.png"),
        "visualize_results": ("--dataset", "d", "--detections", "d.json"),
    }.get(name, ())
    message = failure(run_tool(name, "--cfg", path, *more))
    assert fault in message and str(path) in message


@pytest.mark.parametrize(
    "overrides, fault",
    [
        (["SOLVER.MAX_ITR", "3"], "did you mean SOLVER.MAX_ITER?"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER in the overrides expects an int"),
        (["SOLVER.MAX_ITER", "-1"], "SOLVER.MAX_ITER must be at least 0"),
        (["MODEL.TYPE", "mask"], "MODEL.TYPE 'mask'"),
        (["MODEL.CONV_BODY", "FPN.none"], "MODEL.CONV_BODY must be one of 28 names such as FPN."),
        (["MODEL.NUM_CLASSES", "4"], "needs 3: background and [square, disc]"),
        (["TRAIN.DATASETS", "()"], "TRAIN.DATASETS is empty"),
        (["TRAIN.DATASETS", "('bccd_trian',)"], "did you mean bccd_train"),
        (["TRAIN.DATASETS", "bccd_train"], "write ('bccd_train',)"),
        (["SOLVER.BASE_LR", "1e30", "SOLVER.WARM_UP_ITERS", "0"], "SOLVER.BASE_LR"),
    ],
)
def test_a_bad_setting_is_named(train, overrides, fault):
    assert fault in failure(train(*overrides))


@pytest.mark.parametrize("name", ["train_net", "infer_simple"])
def test_a_missing_number_of_classes_is_named(tool, train, workplace, tmp_path, name):
    unset = ("MODEL.NUM_CLASSES", -1, "RETINANET.SOFTMAX", "True")
    where = ("--wts", workplace.weights, "--output-dir", tmp_path, workplace.images)
    outcome = train(*unset) if name == "train_net" else tool(name, *where, *unset)
    assert "MODEL.NUM_CLASSES is -1; set it to" in failure(outcome)


def test_a_wrong_number_of_classes_in_testing_is_named(tool, workplace):
    message = failure(tool("test_net", "TEST.WEIGHTS", workplace.weights, "MODEL.NUM_CLASSES", 4))
    assert "MODEL.NUM_CLASSES is 4" in message and "data set squares needs 3" in message


@pytest.mark.parametrize("name", ["train_net", "test_net"])
def test_classes_in_another_order_than_trained_are_named(
    tool, workplace, annotated, tmp_path, name
):
    _, path = annotated(lambda content: content["categories"].reverse())
    other = {"im_dir": str(workplace.images), "ann_fn": str(path)}
    run = tmp_path / "run"
    message = failure(
        tool(
            name, "DATASETS_EXTRA.other", other, "TEST.DATASETS", "('squares', 'other')",
            "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR", run,
        )
    )  # fmt: skip
    source = "TRAIN.DATASETS (squares)" if name == "train_net" else f"weights {workplace.weights}"
    assert (
        "class 1 is disc instead of square, class 2 is square instead of disc in data set other, "
        f"in another order than in {source}: list the 'categories'"
    ) in message
    assert not list(run.rglob("*.pkl")) and not list(run.rglob("*.json"))


@pytest.mark.parametrize("name", ["train_net", "test_net"])
def test_an_empty_list_of_test_data_sets_is_named(tool, name):
    assert "TEST.DATASETS is empty" in failure(tool(name, "TEST.DATASETS", "()"))


def test_a_known_data_set_without_its_folder_is_named(train, monkeypatch):
    names = ("TRAIN.DATASETS", "('bccd_train',)")
    monkeypatch.delenv("BCCD_ROOT", raising=False)
    assert "set the environment variable BCCD_ROOT" in failure(train(*names))
    monkeypatch.setenv("BCCD_ROOT", "/no/such/folder")
    assert "BCCD_ROOT=/no/such/folder is not a folder" in failure(train(*names))


def test_a_missing_file_of_data_sets_is_named(train, monkeypatch, tmp_path):
    path = tmp_path / "catalog.yaml"
    monkeypatch.setenv("DETECTRON_EXT_DATASETS", str(path))
    assert f"cannot read {path}" in failure(train("TRAIN.DATASETS", "('mine',)"))
    path.write_text("mine: {im_dir: 3}")
    assert "write mine: {im_dir: FOLDER" in failure(train("TRAIN.DATASETS", "('mine',)"))


# Output folder


@pytest.mark.parametrize("place", ["{cfg}/under_a_file", "/proc/nothing"])
@pytest.mark.parametrize("name", ["train_net", "test_net"])
def test_an_unusable_output_folder_is_named(tool, workplace, name, place):
    folder = place.format(cfg=workplace.cfg)
    message = failure(tool(name, "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR", folder))
    assert f"cannot write to the output folder {folder}" in message and "OUTPUT_DIR" in message


@pytest.mark.parametrize("name", ["train_net", "test_net"])
@pytest.mark.parametrize(
    "overrides",
    [
        ("DATASETS_EXTRA.squares.ann_fn", "/no/file.json"),
        ("DATASETS_EXTRA.squares.im_dir", "/no/images"),
        ("DATASETS_EXTRA.squares.im_dir", "{empty}"),  # each image is missing
        ("TRAIN.DATASETS", "('none',)", "TEST.DATASETS", "('none',)"),
        ("TRAIN.WEIGHTS", "/no/model.pkl", "TEST.WEIGHTS", "/no/model.pkl"),
        ("MODEL.NUM_CLASSES", 7),
        ("TEST.WEIGHTS", "", "TRAIN.DATASETS", "('none',)"),
        ("SOLVER.MAX_ITR", 1),
    ],
)
def test_a_wrong_input_leaves_no_output_folder(tool, workplace, tmp_path, name, overrides):
    empty, output = tmp_path / "empty", tmp_path / "output"
    empty.mkdir()
    given = [str(text).format(empty=empty) for text in overrides]
    failure(tool(name, "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR", output, *given))
    assert not output.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission_is_named(train, tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in failure(train())


# Annotations


@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe", b"[]", b"{}", b"[" * 100000])
def test_an_annotation_file_of_another_kind_is_named(train, tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_bytes(text)
    message = failure(train("DATASETS_EXTRA.squares.ann_fn", path))
    assert str(path) in message
    assert "not JSON" in message or "not COCO format" in message


def test_a_missing_annotation_file_or_image_folder_is_named(train, tmp_path):
    message = failure(train("DATASETS_EXTRA.squares.ann_fn", tmp_path / "none.json"))
    assert "none.json: No such file" in message
    message = failure(train("DATASETS_EXTRA.squares.im_dir", tmp_path / "none"))
    assert f"image folder {tmp_path / 'none'} not found" in message


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"bbox": [1, 2]}, "annotations[3]: bbox must be four numbers"),
        ({"image_id": None}, "annotations[3]: image_id must be"),
        ({"id": 1}, "annotations[3]: id 1 is used twice"),
        ({"id": "four"}, "ids of 'annotations' must be all numbers or all text"),
        ({"area": "large"}, "annotations[3]: area must be a number"),
        ({"iscrowd": "no"}, "annotations[3]: iscrowd must be a number"),
    ],
)
def test_an_annotation_that_breaks_the_format_is_named(train, annotated, change, fault):
    overrides = annotated(lambda content: content["annotations"][3].update(change))
    message = failure(train(*overrides))
    assert fault in message and "changed.json" in message


def test_unusable_boxes_are_dropped_or_clipped_and_counted(tool, annotated, tmp_path):
    def spoil(content):
        boxes = content["annotations"]
        boxes[0]["bbox"] = [-10, -10, 60, 60]
        boxes[1]["bbox"] = [5, 5, 0, 9]
        boxes[2]["bbox"][0] = float("nan")
        boxes[3]["bbox"][2] = 10**400
        boxes[4]["image_id"] = 99
        boxes[5]["category_id"] = 99
        boxes[6]["bbox"] = [500, 500, 9, 9]
        boxes[7]["iscrowd"] = None

    overrides = ("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 1, "VIS", "True")
    outcome = tool("train_net", *annotated(spoil), *overrides)
    assert outcome.status == 0
    said = [line for line in outcome.err.splitlines() if "boxes dropped" in line]
    assert len(said) == 1  # although training and testing read the file
    assert "squares: 6 of 16 boxes dropped: 2 non-finite (annotation 3, ...)" in said[0]
    for reason in ("zero-sized", "outside the image", "an unknown image_id", "an unknown category"):
        assert reason in said[0]
    assert "; 1 reaching beyond the image" in said[0]
    assert (tmp_path / "test" / "squares" / "retinanet" / "results.json").exists()


def test_ids_may_be_text(tool, annotated, tmp_path):
    def rename(content):
        for item in content["images"] + content["categories"]:
            item["id"] = f"id {item['id']}"
        for item in content["annotations"]:
            item["image_id"] = f"id {item['image_id']}"
            item["category_id"] = f"id {item['category_id']}"

    overrides = ("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 1, "VIS", "True")
    assert tool("train_net", *annotated(rename), *overrides).status == 0


def test_a_data_set_without_boxes_to_train_on_is_named(train, annotated):
    message = failure(train(*annotated(lambda content: content.update(annotations=[]))))
    assert "squares: no image has a ground-truth box" in message
    message = failure(train(*annotated(lambda content: content.pop("annotations"))))
    assert "has no 'annotations'" in message


# Images


def _remove(path):
    os.remove(path)


def _garble(path):
    with open(path, "wb") as file:
        file.write(b"no image")


def _claim_too_many_pixels(path):
    with open(path, "wb") as file:
        file.write(b"P6 40000 40000 255 ")


def _truncate(path):
    os.truncate(path, 40)


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (_remove, "not found"),
        (_garble, "decode"),
        (_claim_too_many_pixels, "OPENCV_IO_MAX_IMAGE_PIXELS"),
        (_truncate, "decode"),
    ],
)
def test_a_bad_image_is_named_or_skipped(tool, workplace, images, tmp_path, spoil, fault):
    bad = os.path.join(images, "3.png")
    spoil(bad)
    common = ("DATASETS_EXTRA.squares.im_dir", images, "OUTPUT_DIR", tmp_path / "run")
    # Two iterations of four images are all eight.
    training = ("train_net", *common, "SOLVER.MAX_ITER", 2, "TRAIN.USE_FLIPPED", "False")
    testing = ("test_net", *common, "TEST.WEIGHTS", workplace.weights)
    for arguments in (training, testing):
        message = failure(tool(*arguments))
        assert bad in message and fault in message and "LIBRA.DATA.SKIP_BAD_IMAGES" in message
    for arguments in (training, testing):
        outcome = tool(*arguments, "LIBRA.DATA.SKIP_BAD_IMAGES", "True")
        assert outcome.status == 0 and bad in outcome.err
    results = json.loads(next((tmp_path / "run").glob("test/*/*/results.json")).read_text())
    assert results["untested_images"] == [3] and results["num_images"] == 7
    assert "squares: 1 of 8 images was not tested" in outcome.err


def test_a_missing_test_image_is_found_before_training(tool, workplace, images, tmp_path):
    os.remove(os.path.join(images, "3.png"))
    entry = {"im_dir": images, "ann_fn": str(workplace.folder / "squares" / "annotations.json")}
    message = failure(
        tool(
            "train_net",
            "DATASETS_EXTRA.other",
            entry,
            "TEST.DATASETS",
            "('other',)",
            "OUTPUT_DIR",
            tmp_path / "run",
        )  # fmt: skip
    )
    assert "data set other: image" in message
    assert not (tmp_path / "run").exists()


def test_an_image_of_another_size_than_annotated_is_named(train, annotated):
    message = failure(train(*annotated(lambda content: content["images"][0].update(width=100))))
    assert "1.png is 128x128 pixels, but annotated as 100x128" in message


def test_training_and_testing_end_if_no_image_can_be_read(train, images):
    for name in os.listdir(images):
        _garble(os.path.join(images, name))
    skip = ("DATASETS_EXTRA.squares.im_dir", images, "LIBRA.DATA.SKIP_BAD_IMAGES", "True")
    assert "no training image can be read" in failure(train(*skip))


# Weights


class _Command:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


def _weights(kind: str, workplace, tmp_path):
    path = tmp_path / f"{kind}.pkl"
    if kind == "truncated":
        path.write_bytes(workplace.weights.read_bytes()[:10000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hello")
    elif kind == "malicious":
        command = _Command()
        command.folder = str(tmp_path / "pwned")
        path.write_bytes(pickle.dumps({"blobs": {"conv1_w": command}}))
    elif kind == "list":
        path.write_bytes(pickle.dumps([1]))
    elif kind == "others":
        path.write_bytes(pickle.dumps({"blobs": {"fc_w": np.ones(3)}}))
    elif kind == "not a number":
        weights = read_weights(str(workplace.weights))
        weights.blobs["conv1_w"][0] = np.nan
        write_weights(str(path), weights)
    elif kind == "objects":
        path.write_bytes(pickle.dumps({"blobs": {"conv1_w": np.array([None])}}))
    return path


@pytest.mark.parametrize(
    "kind, fault",
    [
        ("missing", "not found"),
        ("truncated", "truncated or damaged"),
        ("empty", "truncated or damaged"),
        ("text", "truncated or damaged"),
        ("malicious", "it names posix.mkdir; only arrays of numbers are read"),
        ("list", "hold a list instead of named blobs"),
        ("others", "lack 165 of the model's 165 parameters"),
        ("not a number", "are not finite in 1 of"),
        ("objects", "it holds an array of type O8"),
    ],
)
@pytest.mark.parametrize("name", ["train_net", "test_net", "infer_simple"])
def test_bad_weights_are_named(tool, workplace, tmp_path, name, kind, fault):
    path = _weights(kind, workplace, tmp_path)
    arguments = {
        "train_net": ("TRAIN.WEIGHTS", path, "TRAIN.AUTO_RESUME", "False"),
        "test_net": ("TEST.WEIGHTS", path),
        "infer_simple": (
            "--wts", path, "--output-dir", tmp_path / "out", workplace.images / "1.png",
        ),
    }[name]  # fmt: skip
    message = failure(tool(name, *arguments))
    assert fault in message and str(path) in message
    assert not (tmp_path / "pwned").exists()


def test_weights_of_another_shape_list_each_mismatch(train, tool, workplace):
    message = failure(train("FPN.DIM", 96, "TRAIN.WEIGHTS", workplace.weights))
    for name in ("fpn_inner_res5_1_sum_w is (64, 512, 1, 1)", "retnet_cls_pred_fpn3_w is"):
        assert name in message
    assert message.count("the model needs") > 20
    libra = ("LIBRA.BFP.ON", "True", "TEST.WEIGHTS", workplace.weights)
    assert "lack 8 of the model's 173 parameters: bfp_theta_w" in failure(tool("test_net", *libra))


def test_weights_at_a_url_are_not_downloaded(train):
    assert "fetch R-50.pkl yourself" in failure(train("TRAIN.WEIGHTS", "https://host/R-50.pkl"))


def test_missing_weights_to_test_are_named(tool, tmp_path):
    message = failure(tool("test_net", "OUTPUT_DIR", tmp_path))
    assert "set TEST.WEIGHTS, or train first" in message


def test_pictures_that_cannot_be_written_cost_no_results(tool, workplace, tmp_path):
    folder = tmp_path / "test" / "squares" / "retinanet"
    folder.mkdir(parents=True)
    (folder / "vis").write_text("not a folder")
    weights = ("TEST.WEIGHTS", workplace.weights)
    message = failure(tool("test_net", *weights, "OUTPUT_DIR", tmp_path, "VIS", "True"))
    assert f"{folder}/vis" in message
    assert {"detections.json", "results.json"} <= {path.name for path in folder.iterdir()}
