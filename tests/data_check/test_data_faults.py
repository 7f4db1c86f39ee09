"""tools/check_data.py on data with one fault each, and on data without."""

from __future__ import annotations

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from exif import encode_turned_jpeg
from squares import make_squares, write_tiny_config, write_tiny_rcnn_config

from detectron_ext.commands import check_data as command
from detectron_ext.config import load
from detectron_ext.data_check import page
from detectron_ext.errors import UserError
from detectron_ext.evaluation.plots import new_figure


class Place:
    """Training and validation squares, whose annotations a test may change."""

    def __init__(self, folder, capsys, monkeypatch):
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch
        self.cfg = write_tiny_config(folder)
        self.train = folder / "squares"
        self.val = folder / "val"
        make_squares(self.val, 8, seed=1)
        self._extra = {"val": {"im_dir": str(self.val / "images"),
                               "ann_fn": str(self.val / "annotations.json")}}  # fmt: skip

    def change(self, edit, part="train"):
        path = getattr(self, part) / "annotations.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    def check(self, *overrides, page=False, **options):
        """Return the number of findings and what was printed; a page takes a second to draw."""
        if not page:
            self._monkeypatch.setattr(command, "write_page", lambda *_: None)
        tree = json.loads(self.cfg.read_text())
        tree["DATASETS_EXTRA"].update(self._extra)
        self.cfg.write_text(json.dumps(tree))
        overrides = ("TEST.DATASETS", ("val",), *overrides)
        config = load(str(self.cfg), overrides)
        count = command.check_data(config, str(self.folder / "check"), **options)
        return count, self._capsys.readouterr().out

    def found(self, *overrides, **options):
        """Return the one finding that there is."""
        count, out = self.check(*overrides, **options)
        assert count == 1, out
        return re.search(r"^1\. (.*)$", out, re.MULTILINE).group(1)

    @property
    def page(self):
        return (self.folder / "check" / "check_data.html").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path, capsys, monkeypatch):
    return Place(tmp_path, capsys, monkeypatch)


def test_data_without_fault_are_counted_and_nothing_is_found(place):
    count, out = place.check(decode=True, page=True)
    assert count == 0 and "nothing is wrong" in out
    assert "squares (training)\n  8 images, 16 boxes, 0 crowds, 0 images without boxes" in out
    assert "val (testing)" in out and "anchors: the best IoU of 16 boxes" in out
    classes = re.findall(r"class (\w+): (\d+) boxes", out)
    assert sum(int(number) for _, number in classes) == 32
    assert "Nothing is wrong" in place.page and "data:image/svg" in place.page


def _corners(content):
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


def _centres(content):
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x + width / 2, y + height / 2, width, height]


def _fractions(content):
    for annotation in content["annotations"]:
        annotation["bbox"] = [value / 128 for value in annotation["bbox"]]


@pytest.mark.parametrize(
    "edit, message",
    [
        (_corners, "squares: the boxes look like corners x1, y1, x2, y2, but COCO's bbox is x, y, "
         "width, height"),
        (_centres, "squares: the boxes look like centre x, centre y, width, height"),
        (_fractions, "squares: the boxes look like fractions of the image"),
    ],
)  # fmt: skip
def test_boxes_in_another_format_are_recognised(place, edit, message):
    place.change(edit)
    assert message in place.check(page=True)[1]
    assert message.split(",")[0].split(":")[1] in place.page


def test_corners_are_converted_by_fix(place, tmp_path):
    before = json.loads((place.train / "annotations.json").read_text())
    place.change(_corners)
    _, out = place.check(fix=str(tmp_path / "out.json"))
    assert "16 boxes converted from corners" in out
    mended = json.loads((tmp_path / "out_squares.json").read_text())
    boxes = [annotation["bbox"] for annotation in mended["annotations"]]
    np.testing.assert_allclose(boxes, [a["bbox"] for a in before["annotations"]])
    (tmp_path / "out_squares.json").rename(place.train / "annotations.json")
    assert place.check()[0] == 0


def test_repeated_boxes_are_found_and_left_out_by_fix(place, tmp_path):
    def edit(content):
        first = content["annotations"][0]
        content["annotations"].append({**first, "id": 900})
        content["annotations"].append(
            {**content["annotations"][1], "id": 901,
             "category_id": 3 - content["annotations"][1]["category_id"]}
        )  # fmt: skip

    place.change(edit)
    count, out = place.check(fix=str(tmp_path / "out.json"))
    assert count == 2
    assert "squares: 1 box repeats another one" in out and "annotation 900" in out
    assert "squares: 1 box repeats one of another class" in out and "annotation 901" in out
    mended = json.loads((tmp_path / "out_squares.json").read_text())
    assert [a["id"] for a in mended["annotations"]] == [*range(1, 17), 901]


def test_what_the_reader_says_is_found(place, tmp_path):
    def edit(content):
        content["annotations"][0]["category_id"] = 77
        content["annotations"][1]["image_id"] = 77

    place.change(edit)
    finding = place.found(fix=str(tmp_path / "out.json"))
    assert finding.startswith("squares: 2 ") and "unknown category" in finding
    mended = json.loads((tmp_path / "out_squares.json").read_text())
    assert len(mended["annotations"]) == 14


def test_an_image_whose_boxes_fix_leaves_out_is_marked(place, tmp_path):
    def edit(content):
        content["annotations"][0]["bbox"] = [5, 5, 0, 9]

    place.change(edit)
    place.check(fix=str(tmp_path / "out.json"))
    mended = json.loads((tmp_path / "out_squares.json").read_text())
    assert [image["id"] for image in mended["images"] if image.get("annotations_dropped")] == [1]


def test_boxes_beyond_the_image_are_clipped_by_fix(place, tmp_path):
    def edit(content):
        content["annotations"][0].update(bbox=[100, 90, 50, 30])

    place.change(edit)
    assert "squares" in place.found(fix=str(tmp_path / "out.json"))
    mended = json.loads((tmp_path / "out_squares.json").read_text())
    assert mended["annotations"][0]["bbox"] == [100, 90, 28, 30]
    assert mended["annotations"][0]["area"] == 28 * 30


def test_objects_that_no_anchor_fits_are_found_with_pictures(place):
    finding = place.found("TRAIN.SCALES", (16,), "TRAIN.MAX_SIZE", 16, page=True)
    assert finding.startswith("squares: anchors: 16 of 16 boxes (100%) never train")
    assert place.page.count("data:image/jpeg") == 4 and "no anchor fits" in place.page


def test_a_limit_below_the_scale_is_found(place):
    assert "squares: TRAIN.MAX_SIZE 128 limits 8 of 8 images" in place.found("TRAIN.SCALES", (200,))
    assert "val: TEST.MAX_SIZE 128 limits 8 of 8 images" in place.found("TEST.SCALE", 200)


def test_missing_files_are_found(place, tmp_path):
    (place.train / "images" / "3.png").unlink()
    finding = place.found(fix=str(tmp_path / "out.json"))
    assert "squares: 1 of 8 image files is missing" in finding and "3.png" in finding
    assert len(json.loads((tmp_path / "out_squares.json").read_text())["images"]) == 7


def test_one_image_under_two_ids_is_found(place):
    (place.train / "images" / "1.png").rename(place.train / "images" / "9.png")
    shutil.copy(str(place.train / "images" / "2.png"), str(place.train / "images" / "1.png"))
    finding = place.found()
    assert finding.startswith("squares: 1 image appears under several ids; first ids 1 and 2")


def test_a_test_image_that_was_trained_is_found_by_content(place):
    shutil.copy(str(place.train / "images" / "2.png"), str(place.val / "images" / "7.png"))
    finding = place.found(page=True)
    assert finding.startswith("1 image of val is also in squares; first ")
    assert "2.png, trained, pair 1" in place.page and "7.png, tested, pair 1" in place.page


def test_a_data_set_may_be_tested_on_itself(place):
    assert place.check("TEST.DATASETS", ("squares",))[0] == 0


_COPIES = {
    "compressed": lambda image: image,
    "brightened": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=20),
    "turned": lambda image: np.rot90(image),
}


@pytest.mark.parametrize("change", _COPIES)
def test_decoding_finds_a_changed_copy(place, change):
    image = _COPIES[change](cv2.imread(str(place.train / "images" / "2.png")))
    (place.val / "images" / "7.png").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    assert place.check()[0] == 0
    finding = place.found(decode=True)
    assert finding.startswith("1 image of val is nearly the same as one of squares; first ")
    assert "7.png" in finding.split(" and ")[0] and "2.png" in finding.split(" and ")[1]


def test_decoding_finds_what_cannot_be_read(place):
    (place.val / "images" / "7.png").write_bytes(b"no image")
    assert "val: 1 picture cannot be read; first " in place.found(decode=True)


def test_turned_photographs_that_fit_both_ways_are_counted(place, caplog):
    for name in ("3.png", "5.png"):
        path = place.val / "images" / name
        path.write_bytes(encode_turned_jpeg(cv2.imread(str(path)), 3))
    finding = place.found(decode=True, page=True)
    assert finding.startswith(
        "data set val: the EXIF tag turns 2 of 8 images and keeps their annotated size, first "
    )
    assert "3.png" in finding and place.page.count("turned by its EXIF tag") >= 2
    assert not caplog.messages


def test_equal_files_are_not_told_again_as_nearly_the_same(place):
    trained, tested = place.train / "images", place.val / "images"
    shutil.copy(str(trained / "2.png"), str(tested / "7.png"))
    shutil.copy(str(trained / "2.png"), str(tested / "8.png"))
    count, out = place.check(decode=True)
    assert count == 2
    assert "2 images of val are also in squares" in out
    assert "val: 1 image appears under several ids; first ids 7 and 8" in out
    cv2.imwrite(str(tested / "8.png"), cv2.imread(str(trained / "2.png")) // 2)
    count, out = place.check(decode=True)
    assert count == 3
    assert "1 image of val is also in squares" in out
    assert "1 image of val is nearly the same as one of squares" in out
    assert "val: 1 group of images that are nearly the same; first ids 7 and 8" in out


def test_classes_are_compared(place):
    def reverse(content):
        content["categories"].reverse()

    place.change(reverse, "val")
    assert "list the 'categories' of its annotation file in the same order" in place.found()
    place.change(reverse, "val")
    assert "MODEL.NUM_CLASSES is 5" in place.check("MODEL.NUM_CLASSES", 5)[1]


def test_a_class_without_boxes_is_found(place):
    def edit(content):
        content["categories"].append({"id": 9, "name": "hexagon"})

    place.change(edit)
    place.change(edit, "val")
    count, out = place.check("MODEL.NUM_CLASSES", 4)
    assert count == 2 and "squares: 1 of 3 classes has no box: hexagon" in out


def test_more_boxes_than_detections_are_found(place):
    """Of the images to test alone: the limit means nothing to training."""
    assert place.found("TEST.DETECTIONS_PER_IM", 1) == (
        "val: 8 of 8 images have more boxes than TEST.DETECTIONS_PER_IM 1, so that a test cannot "
        "find all of them; set it to 2"
    )


def test_proposals_are_not_limited_by_the_number_of_detections(place, tmp_path):
    (tmp_path / "proposals").mkdir()
    place.cfg = write_tiny_rcnn_config(tmp_path / "proposals")
    limit = ("TEST.DETECTIONS_PER_IM", 1)
    assert "val: 8 of 8 images have more boxes" in place.check(*limit)[1]
    only = ("MODEL.FASTER_RCNN", False, "MODEL.RPN_ONLY", True)
    assert "more boxes" not in place.check(*limit, *only)[1]


def test_a_box_at_fault_is_drawn_with_its_class(place, monkeypatch):
    drawn = []

    def keep(image, annotations, names):
        drawn.extend(names[annotation["category_id"]] for annotation in annotations)
        return image

    def edit(content):
        for number in (1, 2):
            content["annotations"][number - 1]["category_id"] = number
            content["annotations"].append(
                {**content["annotations"][number - 1], "id": 900 + number}
            )

    place.change(edit)
    monkeypatch.setattr(page, "draw_boxes", keep)
    place.found(page=True)
    assert sorted(drawn) == ["disc", "square"]


def test_an_image_that_cannot_be_read_has_its_reason_instead_of_a_picture(place):
    path = place.val / "images" / "7.png"
    path.write_bytes(b"no image")
    finding = place.found(decode=True, page=True)
    assert finding == (
        f"val: 1 picture cannot be read; first {path}, which is not an image that OpenCV can decode"
    )
    caption = "val: 7.png, is not an image that OpenCV can decode (no picture)"
    assert f"<figcaption>{caption}</figcaption>" in place.page
    assert "1 thing is wrong or suspicious." in place.page


@pytest.mark.parametrize("values", [[3, 3], [1, 400], [0.001, 5000]])
def test_axes_of_charts_have_plain_numbers(values):
    axes = new_figure(3, 3).add_subplot(1, 1, 1)
    page._log_histogram(axes, [np.array(values, float)], [""])
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    assert low < min(values) and high > max(values) and high >= 4 * low
    shown = [float(label.get_text()) for label in axes.get_xticklabels()]
    assert 1 <= len([value for value in shown if low <= value <= high]) <= 8
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))


def test_data_without_boxes_and_without_annotations(place):
    place.change(lambda content: content.pop("annotations"), "val")
    assert place.check()[0] == 0
    place.change(lambda content: content.update(annotations=[]))
    assert "no image has a ground-truth box to train on" in place.found()
    place.change(lambda content: content.pop("annotations"))
    assert "has no 'annotations' to train on" in place.check()[1]


def test_no_data_sets_and_unwritable_folders_are_errors(place):
    with pytest.raises(UserError, match="TRAIN.DATASETS and TEST.DATASETS are empty"):
        place.check("TRAIN.DATASETS", (), "TEST.DATASETS", ())
    (place.folder / "check").write_text("a file")
    with pytest.raises(UserError, match="cannot write the page to folder"):
        place.check()
