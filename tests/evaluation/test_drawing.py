"""Boxes on images, panels and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron_ext.evaluation.drawing import (
    PALETTE,
    class_colour,
    contact_sheet,
    draw_boxes,
    fit,
    is_too_large,
    side_by_side,
    titled,
)

NAMES = {1: "red cell", 2: "platelet"}


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def box(x, y, w, h, category=1, **more):
    return {"bbox": [x, y, w, h], "category_id": category, **more}


@pytest.mark.parametrize("side", [256, 600, 2000])
def test_box_is_drawn_around_its_pixels_and_hides_none(side):
    image = grey(side, side)
    x, y, w, h = side // 4, side // 3, side // 2, side // 3
    drawn = draw_boxes(image, [box(x, y, w, h)], NAMES)
    assert (image == 128).all()
    assert (drawn[y : y + h, x : x + w] == 128).all()
    middle = drawn[y + h // 2]
    colour = np.array(class_colour(1))
    assert (middle == colour).all(axis=1).any()
    columns = np.nonzero((middle != 128).any(axis=1))[0]
    assert columns.min() >= x - side // 100 - 4 and columns.max() < x + w + side // 100 + 4


def test_label_is_drawn_in_the_class_colour_and_grows_with_the_image():
    def label_height(side):
        drawn = draw_boxes(grey(side, side), [box(side // 2, side // 2, 8, 8, 2)], NAMES)
        colour = (drawn == class_colour(2)).all(axis=2)
        # Rows where the label's background reaches beyond the little box.
        return int(colour[:, side // 2 + 20 :].any(axis=1).sum())

    small, large = label_height(256), label_height(2000)
    assert small >= 9 and large > 2 * small


def test_an_empty_name_without_a_score_has_no_label():
    image = grey(128, 128)
    drawn = draw_boxes(image, [box(40, 40, 48, 48)], {1: ""})
    rows, columns = np.nonzero((drawn != image).any(axis=2))
    assert min(rows.min(), columns.min()) >= 38 and max(rows.max(), columns.max()) < 90


def test_low_scores_are_left_out_but_ground_truth_stays():
    image = grey(300, 300)
    assert (draw_boxes(image, [box(50, 50, 60, 60, score=0.4)], NAMES, 0.5) == image).all()
    assert (draw_boxes(image, [box(50, 50, 60, 60)], NAMES, 0.5) != image).any()


def test_labels_do_not_overlap():
    def label_pixels(boxes):
        drawn = draw_boxes(grey(400, 400), boxes, NAMES)
        drawn[140:190, 140:192] = 0  # the boxes themselves
        return int((drawn == class_colour(1)).all(axis=2).sum())

    one, two = box(150, 150, 30, 30, 1), box(151, 150, 30, 30, 2)
    alone = label_pixels([one])
    # Had a label been put on the other, most of its background would be gone.
    assert alone > 100
    assert label_pixels([one, two]) > 0.7 * alone and label_pixels([two, one]) > 0.7 * alone


def test_unknown_category_is_drawn_with_its_number():
    image = grey(200, 200)
    assert (draw_boxes(image, [box(50, 50, 60, 60, category=9)], {}) != image).any()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    bbox=st.tuples(*[st.floats(-400, 400)] * 2, *[st.floats(0, 900)] * 2),
    score=st.floats(0, 1),
)
def test_any_box_on_any_image_is_drawn_or_clipped(shape, bbox, score):
    drawn = draw_boxes(grey(*shape), [box(*bbox, score=score)], {1: "a very long class name"})
    assert drawn.shape == (*shape, 3) and drawn.dtype == np.uint8


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_arrays_that_are_not_images_are_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        draw_boxes(image, [], NAMES)


def test_fit_scales_boxes_with_the_image():
    image, boxes = fit(grey(100, 150), [box(10, 20, 30, 40)], min_side=250)
    assert image.shape == (250, 375, 3) and boxes[0]["bbox"] == [25, 50, 75, 100]
    image, boxes = fit(grey(100, 150), [box(10, 20, 30, 40)], min_side=50)
    assert image.shape == (100, 150, 3) and boxes[0]["bbox"] == [10, 20, 30, 40]


@pytest.mark.parametrize("shape", [(1, 5000), (3000, 2)])
def test_a_narrow_image_does_not_grow_without_limit(shape):
    image, (scaled,) = fit(grey(*shape), [box(0, 0, 1, 1)], min_side=480)
    assert max(image.shape) <= 4096
    assert scaled["bbox"][2] * shape[0] == pytest.approx(image.shape[0], rel=0.5)


@pytest.mark.parametrize("shape", [(12, 9000), (9000, 12), (5000, 6000)])
def test_a_large_image_is_reduced_with_its_boxes(shape):
    image, (scaled,) = fit(grey(*shape), [box(0, 0, shape[1], shape[0])])
    assert max(image.shape) == 4096
    assert scaled["bbox"][2:] == pytest.approx([image.shape[1], image.shape[0]], abs=2)
    assert is_too_large(grey(*shape)) and not is_too_large(grey(4096, 4096))
    panel = side_by_side(grey(*shape), [box(0, 0, 5, 5)], [], NAMES)
    assert panel.shape[1] <= 4096 + 6 and panel.shape[0] <= 4096 + 100


def test_columns_share_the_width():
    assert fit(grey(100, 3000), [], columns=3)[0].shape[1] == round(4096 / 3)
    assert is_too_large(grey(100, 3000), columns=2) and not is_too_large(grey(3000, 100), columns=2)


def test_side_by_side_has_truth_left_and_detections_right():
    truth, detections = [box(20, 20, 60, 60, 1)], [box(20, 20, 60, 60, 2, score=0.9)]
    panel = side_by_side(grey(128, 128), truth, detections, NAMES, min_side=256)
    middle = panel.shape[1] // 2
    left, right = panel[:, :middle], panel[:, middle:]
    for half, inside, outside in ((left, 1, 2), (right, 2, 1)):
        assert (half == class_colour(inside)).all(axis=2).sum() > 200
        assert not (half == class_colour(outside)).all(axis=2).any()


def test_contact_sheet_places_images_in_rows():
    images = [np.full((20 + i, 30, 3), i, np.uint8) for i in range(5)]
    sheet = contact_sheet(images, columns=3)
    assert sheet.shape == (2 * 24 + 6, 3 * 30 + 12, 3)
    for i in range(5):
        top, left = i // 3 * 30, i % 3 * 36
        assert (sheet[top : top + 20 + i, left : left + 30] == i).all()
    assert (sheet[30:, 72:] == 255).all()
    assert contact_sheet(images[:1], columns=4).shape == (20, 30, 3)
    with pytest.raises(ValueError, match="0 images"):
        contact_sheet([], columns=2)


def test_title_stands_above_and_never_widens_the_image():
    image = grey(60, 90)
    strip = titled(image, "a title that is far too long for so small an image")
    assert strip.shape[1] == 90 and (strip[-60:] == image).all()
    assert (strip[:-60] < 100).any()


def test_palette_colours_differ():
    assert len(set(PALETTE)) == len(PALETTE)
    assert class_colour(3) == class_colour(3 + len(PALETTE))


def test_label_does_not_cover_other_boxes():
    above, below = box(150, 90, 80, 55, 2), box(150, 150, 80, 60, 1)
    drawn = draw_boxes(grey(400, 400), [above, below], NAMES)
    assert (drawn[90:145, 150:230] == 128).all()
