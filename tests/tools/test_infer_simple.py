from __future__ import annotations

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from tool_runner import failure

from detectron_ext.commands.infer import report_none
from detectron_ext.engine.weights_file import read_weights, write_weights


@pytest.fixture
def infer(tool, workplace, tmp_path):
    """Return a function: arguments -> outcome, pictures in tmp_path/out."""
    return lambda *arguments: tool(
        "infer_simple", "--wts", workplace.weights, "--output-dir", tmp_path / "out", *arguments
    )


def _outputs(tmp_path):
    return {path.name for path in (tmp_path / "out").iterdir()}


def _listed(tmp_path):
    return json.loads((tmp_path / "out" / "detections.json").read_text())


def test_an_image_is_drawn_and_listed(infer, workplace, tmp_path):
    assert infer("--thresh", 0, workplace.images / "1.png").status == 0
    assert _outputs(tmp_path) == {"1.png.png", "detections.json"}
    (name, found), = _listed(tmp_path).items()  # fmt: skip
    assert name == "1.png" and found
    for entry in found:
        assert entry.keys() == {"class", "score", "bbox"}
        assert entry["class"] in ("square", "disc")
        assert 0 <= entry["score"] <= 1 and len(entry["bbox"]) == 4
    assert [f["score"] for f in found] == sorted((f["score"] for f in found), reverse=True)
    original = cv2.imread(str(workplace.images / "1.png"))
    drawn = cv2.imread(str(tmp_path / "out" / "1.png.png"))
    assert drawn.shape == original.shape and (drawn != original).any()


def test_an_image_has_the_boxes_that_a_test_of_its_data_set_finds(infer, workplace, tmp_path):
    infer("--thresh", 0, workplace.images / "1.png")
    tested = json.loads((workplace.testing / "detections.json").read_text())
    names = {1: "square", 2: "disc"}
    expected = [
        {"class": names[found["category_id"]], "score": found["score"], "bbox": found["bbox"]}
        for found in tested
        if found["image_id"] == 1
    ]
    assert _listed(tmp_path)["1.png"] == expected


@pytest.mark.parametrize(
    "kept, end", [(2, ", the most that TEST.DETECTIONS_PER_IM keeps"), (0, "")]
)
def test_a_limit_on_the_detections_of_an_image_is_said(infer, workplace, tmp_path, kept, end):
    outcome = infer("--thresh", 0, workplace.images / "1.png", "TEST.DETECTIONS_PER_IM", kept)
    assert outcome.status == 0
    line = f"1.png: {len(_listed(tmp_path)['1.png'])} objects{end}"
    assert outcome.err.splitlines()[-1].endswith(line)


def test_a_score_below_the_threshold_is_neither_drawn_nor_listed(infer, workplace, tmp_path):
    assert infer("--thresh", 0.999, workplace.images / "1.png").status == 0
    assert _outputs(tmp_path) == {"detections.json"}
    assert _listed(tmp_path) == {"1.png": []}
    assert infer("--thresh", 0.999, "--always-out", workplace.images / "1.png").status == 0
    assert _outputs(tmp_path) == {"detections.json", "1.png.png"}


def test_a_folder_gives_one_picture_per_image_and_keeps_the_originals(infer, workplace, tmp_path):
    # As upstream's scripts do: results beside the images.
    folder = tmp_path / "out"
    folder.mkdir()
    original = (workplace.images / "1.png").read_bytes()
    (folder / "a.png").write_bytes(original)
    cv2.imwrite(str(folder / "a.jpg"), cv2.imread(str(workplace.images / "2.png")))
    (folder / "b.png").write_bytes(b"no image")
    (folder / "c.ppm").write_bytes(b"P6 40000 40000 255 ")  # more pixels than OpenCV takes
    (folder / "notes.txt").write_text("no image")
    outcome = infer("--thresh", 0, "--kp-thresh", 2, "--output-ext", "jpg", folder)
    assert outcome.status == 0
    assert "passed over files that OpenCV cannot decode: b.png, notes.txt" in outcome.err
    assert "c.ppm claims" in outcome.err and "OPENCV_IO_MAX_IMAGE_PIXELS" in outcome.err
    assert (folder / "a.png").read_bytes() == original
    assert {"a.jpg.jpg", "a.png.jpg"} <= _outputs(tmp_path)
    assert _listed(tmp_path).keys() == {"a.jpg", "a.png"}


def test_every_file_that_opencv_decodes_is_read_and_the_others_are_named(
    infer, workplace, tmp_path
):
    folder = tmp_path / "images"
    folder.mkdir()
    image = cv2.imread(str(workplace.images / "1.png"))
    for name in ("a.jp2", "b.JPG", "c.ppm", "d.ras"):
        cv2.imwrite(str(folder / name), image)
    shutil.copy(str(folder / "b.JPG"), str(folder / "e.jfif"))
    shutil.copy(str(folder / "b.JPG"), str(folder / "f"))  # without an extension
    (folder / "g.gif").write_bytes(b"GIF89a" + bytes(20))
    (folder / "h.tga").write_bytes(bytes(40))
    (folder / "folder.png").mkdir()
    outcome = infer(folder)
    assert outcome.status == 0
    assert _listed(tmp_path).keys() == {"a.jp2", "b.JPG", "c.ppm", "d.ras", "e.jfif", "f"}
    assert f"{folder}: passed over files that OpenCV cannot decode: g.gif, h.tga" in outcome.err


def test_a_second_run_does_not_detect_on_the_pictures_of_the_first(infer, workplace, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("1.png", "2.png"):
        shutil.copy(str(workplace.images / name), str(folder / name))
    assert "passed over" not in infer("--thresh", 0, folder).err
    (folder / "2.png").unlink()  # its picture stays
    outcome = infer("--thresh", 0, "--output-ext", "jpg", folder)
    assert outcome.status == 0 and _listed(tmp_path).keys() == {"1.png"}
    assert "passed over pictures of an earlier run: 1.png.png, 2.png.png" in outcome.err
    assert "detections.json" not in outcome.err.replace("earlier run: ", "")
    outcome = infer("--thresh", 0, "--image-ext", "png", folder)
    assert outcome.status == 0 and _listed(tmp_path).keys() == {"1.png"}


def test_a_large_image_gives_a_reduced_picture_and_that_is_said(infer, tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((12, 9000, 3), np.uint8))
    outcome = infer("--always-out", tmp_path / "wide.png")
    assert outcome.status == 0
    assert cv2.imread(str(tmp_path / "out" / "wide.png.png")).shape[1] == 4096
    assert (
        "1 of them is reduced: the images in a picture have at most 4096 pixels on a side"
        in outcome.err
    )


def test_a_limit_below_the_scale_is_said(infer, workplace):
    outcome = infer(workplace.images / "1.png", "TEST.SCALE", 256)
    assert "TEST.MAX_SIZE 128 limits 1 of 1 images" in outcome.err


def test_deep_images_are_refused_or_stretched(infer, tmp_path):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    assert "no image that OpenCV can decode" in failure(infer(path))
    outcome = infer(path, "--always-out", "LIBRA.DATA.DEEP_IMAGES", "stretch")
    assert outcome.status == 0
    drawn = cv2.imread(str(tmp_path / "out" / "deep.png.png"))
    assert drawn.min() == 0 and drawn.max() == 255


def test_only_files_with_the_given_extension_are_read(infer, workplace, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(str(workplace.images), str(folder))
    cv2.imwrite(str(folder / "9.jpg"), np.zeros((40, 60, 3), np.uint8))
    assert infer("--image-ext", "jpg", folder).status == 0
    assert _listed(tmp_path).keys() == {"9.jpg"}
    assert "(.webp)" in failure(infer("--image-ext", "webp", folder))


def test_flags_may_stand_anywhere(infer, workplace, tmp_path):
    image = workplace.images / "1.png"
    assert infer(image, "TEST.DETECTIONS_PER_IM", 1, "--thresh", 0).status == 0
    assert len(_listed(tmp_path)["1.png"]) == 1
    assert infer(image, "--thresh", 0, "TEST.DETECTIONS_PER_IM", 2).status == 0
    assert len(_listed(tmp_path)["1.png"]) == 2


def test_weights_without_class_names_give_numbers(tool, workplace, tmp_path):
    weights = str(tmp_path / "bare.pkl")
    write_weights(weights, read_weights(str(workplace.weights))._replace(classes=None))
    image = workplace.images / "1.png"
    outcome = tool(
        "infer_simple", "--wts", weights, "--output-dir", tmp_path / "out", "--thresh", 0, image
    )
    assert outcome.status == 0
    assert {found["class"] for found in _listed(tmp_path)["1.png"]} <= {"class 1", "class 2"}
    assert f"{weights} holds no class names: classes are shown by their numbers" in outcome.err


def test_without_a_detection_the_best_score_is_said(infer, workplace, tmp_path):
    infer("--thresh", 0, workplace.images / "1.png")
    best = _listed(tmp_path)["1.png"][0]["score"]
    message = f"no detection has a score of at least 0.999 (--thresh); the best score is {best:.3g}"
    outcome = infer("--thresh", 0.999, workplace.images / "1.png")
    assert f"1 image: {message}" in outcome.err
    assert "--thresh" not in infer("--thresh", 0, workplace.images / "1.png").err


def test_without_any_detection_that_is_said(caplog):
    report_none(2, 0.7, -1.0)
    assert "2 images: no detection has a score of at least 0.7" in caplog.text
    assert "and none with a lower score" in caplog.text


def test_keys_without_effect_on_the_detections_are_said(infer, workplace):
    image = workplace.images / "1.png"
    said = "without effect on RetinaNet: TEST.SCORE_THRESH (set RETINANET.INFERENCE_TH)"
    assert said in infer(image, "TEST.SCORE_THRESH", 0.3).err
    assert "without effect" not in infer(image, "TEST.RPN_PRE_NMS_TOP_N", 10000).err


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["no.png"], "no such image or folder: no.png"),
        (["{folder}"], "tiny.yaml: no image that OpenCV can decode"),
        (["--output-ext", "pdf", "{image}"], "as .pdf: use png"),
        (["--thresh", "nan", "{image}"], "--thresh must be a score from 0 to 1"),
        (["--thresh", "70", "{image}"], "--thresh must be a score from 0 to 1"),
        (["--thresh", "-1", "{image}"], "--thresh must be a score from 0 to 1"),
        (["TEST.NMS", "0.4", "{image}"], "the image or folder before the KEY VALUE pairs, not aft"),
        (["TEST.NSM", "0.4", "{image}"], "before the KEY VALUE pairs, not after TEST.NSM"),
        (["--thresh", "high", "{image}"], "--thresh: invalid float value: 'high'"),
        (["--output-dir", "{folder}/x", "{image}"], "tiny.yaml/x: Not a directory"),
        (["--output-dir", "{folder}", "{image}"], "tiny.yaml: File exists"),
        (["--wts", "", "{image}"], "weights file not found"),
        (["{image}", "TEST.NMS"], "'TEST.NMS' (str) has no partner"),
        (["{image}", "{image}"], "1.png: give one image or one folder of images, not several"),
        (["{image}", "{image}", "{image}"], "give one image or one folder of images"),
        (["{image}", "MODEL.NUM_CLASSES", "4"], "retnet_cls_pred_fpn3_w is (18, 64, 3, 3)"),
    ],
)
def test_bad_arguments_are_named_and_leave_nothing(infer, workplace, tmp_path, arguments, fault):
    places = {"folder": workplace.cfg, "image": workplace.images / "1.png"}
    assert fault in failure(infer(*(text.format(**places) for text in arguments)))
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_an_error(infer, tmp_path):
    (tmp_path / "empty").mkdir()
    assert f"folder {tmp_path / 'empty'} has no images" in failure(infer(tmp_path / "empty"))


def test_a_name_that_is_not_utf_8_is_drawn_and_listed(infer, workplace, tmp_path):
    """OpenCV's own functions end the process for such a name."""
    folder = tmp_path / "images"
    folder.mkdir()
    name = os.fsdecode(b"\xff\xfe.png")
    shutil.copy(str(workplace.images / "1.png"), os.path.join(str(folder), name))
    assert infer("--thresh", 0, folder).status == 0
    assert _outputs(tmp_path) == {name + ".png", "detections.json"}
    assert list(_listed(tmp_path)) == [name]
    assert infer("--thresh", 0, "--output-ext", os.fsdecode(b"\xff"), folder).status == 2


def test_a_picture_that_cannot_be_written_costs_no_detections(infer, workplace, tmp_path):
    (tmp_path / "out" / "2.png.png").mkdir(parents=True)
    message = failure(infer("--thresh", 0, workplace.images))
    assert "2.png.png" in message and "detections.json is complete" in message
    assert set(_listed(tmp_path)) == {f"{number}.png" for number in range(1, 9)}
    assert _outputs(tmp_path) == {"1.png.png", "2.png.png", "detections.json"}
