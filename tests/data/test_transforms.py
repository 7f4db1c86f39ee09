from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from exif import encode_turned_jpeg
from hypothesis import given
from hypothesis import strategies as st

from detectron_ext.data import transforms
from detectron_ext.data.minibatch import load_sample
from detectron_ext.data.records import flip_horizontally
from detectron_ext.errors import DatasetError


def paint(boxes, height, width):
    """An image that is 255 inside the (whole-pixel) boxes."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in boxes.astype(int):
        image[y1 : y2 + 1, x1 : x2 + 1] = 255
    return image


_TOO_MANY_PIXELS = b"P6 40000 40000 255 "  # OpenCV raises its own error for these
BOXES = np.array([[2, 3, 8, 5]], dtype=np.float32)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_boxes_rotate_with_their_pixels(turns):
    image, boxes = transforms.rotate90(paint(BOXES, 13, 17), BOXES, turns)
    np.testing.assert_array_equal(image, paint(boxes, *image.shape[:2]))
    assert image.shape[:2] == ((13, 17) if turns % 2 == 0 else (17, 13))


def test_boxes_flip_with_their_pixels():
    image, boxes = transforms.flip_vertically(paint(BOXES, 13, 17), BOXES)
    np.testing.assert_array_equal(image, paint(boxes, 13, 17))
    np.testing.assert_array_equal(boxes, [[2, 7, 8, 9]])


def test_flipped_record_reads_a_mirrored_image(make_record):
    record = make_record(width=41)
    mirrored = transforms.read_image(flip_horizontally(record))
    np.testing.assert_array_equal(mirrored, transforms.read_image(record)[:, ::-1])


@pytest.mark.parametrize("content", [None, b"", b"not an image", _TOO_MANY_PIXELS])
def test_unreadable_image_is_named(make_record, tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"broken\.jpg"):
        transforms.read_image(replace(make_record(), path=str(path)))
    with pytest.raises(DatasetError, match=r"broken\.jpg"):
        transforms.read_file(str(path))


def test_image_of_another_size_than_annotated_is_named(make_record):
    with pytest.raises(DatasetError, match="40x30 pixels, but annotated as 40x31"):
        transforms.read_image(replace(make_record(), height=31))


def test_exif_orientation_is_applied_if_the_annotated_size_needs_it(make_record, tmp_path):
    path = tmp_path / "turned.jpg"
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    image[:10] = 255
    path.write_bytes(encode_turned_jpeg(image))
    as_viewed = replace(make_record(), path=str(path), height=40, width=30)
    as_stored = replace(as_viewed, height=30, width=40)
    np.testing.assert_array_equal(transforms.read_image(as_viewed), cv2.imread(str(path)))
    stored = transforms.read_image(as_stored)
    assert stored[:8].mean() > 240
    assert stored[12:].mean() < 15


def test_gray_image_gets_three_channels(make_record, tmp_path):
    path = str(tmp_path / "gray.png")
    cv2.imwrite(path, np.full((30, 40), 9, dtype=np.uint8))
    image = transforms.read_image(replace(make_record(), path=path))
    assert image.shape == (30, 40, 3)
    assert (image == 9).all()


@pytest.mark.parametrize(
    "height, width, scale",
    [(300, 400, 2.0), (400, 300, 2.0), (300, 600, 1000 / 600), (300, 500, 2.0)],
)
def test_shorter_side_gets_the_scale_unless_the_longer_side_is_too_long(height, width, scale):
    assert transforms.resize_scale(height, width, 600, 1000) == pytest.approx(scale)


def test_the_scales_of_many_images_are_those_of_each():
    sides = np.random.default_rng(0).integers(1, 2000, (500, 2))
    scales = transforms.resize_scales(sides[:, 0], sides[:, 1], 600, 1000)
    expected = [transforms.resize_scale(height, width, 600, 1000) for height, width in sides]
    assert scales.tolist() == expected


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    target=st.integers(1, 80),
    longest=st.integers(1, 100),
)
def test_resized_sides_are_rounded_products(height, width, target, longest):
    scale = transforms.resize_scale(height, width, target, longest)
    image = transforms.resize(np.zeros((height, width, 3), dtype=np.float32), scale)
    assert image.shape[:2] == (
        max(1, int(np.round(height * scale))),
        max(1, int(np.round(width * scale))),
    )
    assert max(image.shape) <= max(longest, 3)


def test_color_jitter_changes_values_within_their_range():
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    rng = np.random.default_rng(1)
    jittered = transforms.jitter_color(image, 0.5, rng)
    assert jittered.dtype == np.float32
    assert jittered.min() >= 0
    assert jittered.max() <= 255
    assert np.abs(jittered - image).mean() > 1
    np.testing.assert_allclose(transforms.jitter_color(image, 0.0, rng), image, atol=1e-3)


def test_crop_moves_clips_and_marks_boxes():
    boxes = np.array(
        [
            [10, 10, 19, 19],  # inside
            [5, 10, 14, 19],  # half inside
            [2, 10, 11, 19],  # a fifth inside
            [0, 0, 9, 9],  # outside, touching the corner
            [30, 30, 39, 39],  # far outside
            [10, 10, 12, 12],  # a crowd
        ],
        dtype=np.float32,
    )
    crowd = np.array([False] * 5 + [True])
    cut, is_crowd, kept = transforms.crop_boxes(boxes, crowd, (10, 10, 20, 15))
    assert kept.tolist() == [0, 1, 2, 5]
    assert is_crowd.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(cut, [[0, 0, 9, 9], [0, 0, 4, 9], [0, 0, 1, 9], [0, 0, 2, 2]])


def test_crop_of_an_image_without_boxes():
    none = np.zeros((0, 4), dtype=np.float32)
    boxes, is_crowd, kept = transforms.crop_boxes(none, np.zeros(0, bool), (1, 1, 5, 5))
    assert boxes.shape == (0, 4)
    assert len(is_crowd) == len(kept) == 0


def test_crop_window_shows_an_object_or_is_refused():
    rng = np.random.default_rng(0)
    box = np.array([[20, 20, 29, 29]], dtype=np.float32)
    no_crowd = np.zeros(1, dtype=bool)
    for _ in range(50):
        left, top, width, height = transforms.choose_crop(box, no_crowd, (50, 50), (40, 30), rng)
        assert (width, height) == (30, 40)
        assert 0 <= left <= 20
        assert 0 <= top <= 10
    whole = np.array([[0, 0, 99, 99]], dtype=np.float32)
    assert transforms.choose_crop(whole, no_crowd, (100, 100), (50, 50), rng) is None
    assert transforms.choose_crop(whole, ~no_crowd, (100, 100), (50, 50), rng) is not None


def test_image_without_a_croppable_object_keeps_its_usual_scale(make_record, config):
    config.LIBRA.AUGMENTATION.SCALE_RANGE = (2.0, 2.0)
    config.LIBRA.AUGMENTATION.CROP = True
    record = make_record(40, 30, boxes=[(0, 0, 39, 29)])
    sample = load_sample(record, config, np.random.default_rng(0), train=True)
    assert sample.scale == 2.0
    assert sample.image.shape == (60, 80, 3)
    assert not sample.is_crowd.any()
