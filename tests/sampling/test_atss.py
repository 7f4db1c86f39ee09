"""ATSS against its definition: loops over objects and anchors, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.geometry.anchors import AnchorGrids, retinanet_anchor_levels
from detectron_ext.sampling.atss import adaptive_positives
from detectron_ext.sampling.retinanet_sampler import highest

_ONE_ANCHOR = ["RETINANET.ASPECT_RATIOS", "(1.0,)", "RETINANET.SCALES_PER_OCTAVE", "1"]
_LEVELS = ["FPN.RPN_MIN_LEVEL", "3", "FPN.RPN_MAX_LEVEL", "7"]


def _anchors(height, width, *overrides):
    """Return the anchors (K, 4) of an image and the shapes (A, H, W) of the levels."""
    config = configuration.load(None, [*_LEVELS, *overrides])
    flat, grids = AnchorGrids(retinanet_anchor_levels(config))(height, width)
    return flat, [grid.shape[:3] for grid in grids]


def _iou(anchor, box):
    width = min(anchor[2], box[2]) - max(anchor[0], box[0]) + 1
    height = min(anchor[3], box[3]) - max(anchor[1], box[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (anchor, box)]
    return shared / (sum(areas) - shared)


def _candidates(shapes, box, k):
    """Return the indices of candidates; the centre of cell i of stride s is s * i + (s - 1) / 2."""
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    found, start = [], 0
    for level, (num_anchors, height, width) in enumerate(shapes, start=3):
        stride = 2**level
        cells = []
        for row in range(height):
            for column in range(width):
                x, y = (stride * i + (stride - 1) / 2 for i in (column, row))
                cells.append(((x - centre_x) ** 2 + (y - centre_y) ** 2, row * width + column))
        for _, cell in sorted(cells)[:k]:
            found += [start + a * height * width + cell for a in range(num_anchors)]
        start += num_anchors * height * width
    return found


def _brute_force(anchors, shapes, boxes, k):
    """Return {anchor: (object, IoU)} by the definition in the paper."""
    owner = {}
    for number, box in enumerate(boxes.astype(float)):
        found = _candidates(shapes, box, k)
        ious = [_iou(anchors[i].astype(float), box) for i in found]
        threshold = np.mean(ious) + (np.std(ious, ddof=1) if len(ious) > 1 else 0)
        for index, iou in zip(found, ious):
            middle = (anchors[index, :2].astype(float) + anchors[index, 2:]) / 2
            inside = (box[:2] - 0.5 < middle).all() and (middle < box[2:] + 0.5).all()
            if iou >= threshold and iou > 0 and inside and iou > owner.get(index, (0, 0))[1]:
                owner[index] = (number, iou)
    return owner


def _boxes(seed, count, height, width):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.8, (count, 2)) * (width, height)
    sides = rng.uniform(3, 90, (count, 2))
    return np.concatenate((corners, corners + sides), axis=1).astype(np.float32)


@pytest.mark.parametrize(
    "seed, size, count, k, overrides",
    [
        (0, (128, 160), 12, 9, []),
        (1, (100, 130), 8, 1, []),  # maps whose sizes were rounded up
        (2, (96, 32), 6, 9, ["RETINANET.SCALES_PER_OCTAVE", "1"]),  # narrower than the window
        (3, (64, 64), 5, 9, _ONE_ANCHOR),
        (4, (64, 96), 5, 40, []),  # more positions than most levels have
        (5, (96, 128), 20, 9, []),  # objects that share anchors
    ],
)  # fmt: skip
def test_positives_equal_the_definition(seed, size, count, k, overrides):
    anchors, shapes = _anchors(*size, *overrides)
    boxes = _boxes(seed, count, *size)
    found = adaptive_positives(anchors, shapes, boxes, k)
    expected = _brute_force(anchors, shapes, boxes, k)
    assert expected and (np.diff(found.anchors) > 0).all()
    assert dict(zip(found.anchors, found.objects)) == {i: o for i, (o, _) in expected.items()}
    wanted = [expected[i][1] for i in found.anchors]
    np.testing.assert_allclose(found.overlaps, wanted, rtol=1e-12)


def test_an_image_without_objects_has_no_positives():
    anchors, shapes = _anchors(64, 64)
    found = adaptive_positives(anchors, shapes, np.zeros((0, 4), np.float32), 9)
    assert [len(part) for part in found] == [0, 0, 0]
    assert found.anchors.dtype == found.objects.dtype == np.int64


def test_an_object_larger_than_the_image_has_positives():
    anchors, shapes = _anchors(64, 96)
    box = np.array([[-200, -150, 300, 250]], np.float32)
    found = adaptive_positives(anchors, shapes, box, 9)
    assert dict(zip(found.anchors, found.objects)) == dict.fromkeys(
        _brute_force(anchors, shapes, box, 9), 0
    )
    assert len(found.anchors) > 0


def test_an_object_between_the_centres_of_cells_has_no_positives():
    """The finest cells are centred on 3.5 and 11.5. The box spans the pixels 5 to 9, the edges
    4.5 and 9.5."""
    anchors, shapes = _anchors(64, 64)
    assert len(adaptive_positives(anchors, shapes, np.array([[5, 5, 9, 9]], np.float32), 9)[0]) == 0
    wider = np.array([[2, 2, 9, 9]], np.float32)
    assert len(adaptive_positives(anchors, shapes, wider, 9).anchors) > 0


def test_an_anchor_belongs_to_the_object_with_the_higher_iou_and_the_first_of_equals():
    anchors, shapes = _anchors(128, 128)
    near, far = [40, 40, 71, 71], [36, 36, 75, 75]
    boxes = np.array([far, near, near], np.float32)
    found = adaptive_positives(anchors, shapes, boxes, 9)
    assert 2 not in found.objects and {0, 1} == set(found.objects)
    alone = [adaptive_positives(anchors, shapes, boxes[i : i + 1], 9) for i in (0, 1)]
    first, second = (dict(zip(part.anchors, part.overlaps)) for part in alone)
    shared = set(first) & set(second)
    owner = dict(zip(found.anchors, found.objects))
    assert shared and all(owner[i] == (second[i] > first[i]) for i in shared)


def test_objects_are_independent_of_the_batches_they_are_computed_in(monkeypatch):
    anchors, shapes = _anchors(256, 256)
    boxes = _boxes(0, 1000, 256, 256)
    whole = adaptive_positives(anchors, shapes, boxes, 9)
    monkeypatch.setattr("detectron_ext.sampling.atss._PAIRS_AT_ONCE", 1)
    single = adaptive_positives(anchors, shapes, boxes, 9)
    for one, other in zip(whole, single):
        np.testing.assert_array_equal(one, other)


def test_the_number_of_pairs_grows_with_the_objects_and_not_with_the_anchors(monkeypatch):
    """100,000 anchors and 1,000 objects: no array has 100 million numbers."""
    anchors, shapes = _anchors(800, 800)
    assert len(anchors) > 100_000
    seen = []
    from detectron_ext.sampling import atss

    original = atss._paired_iou
    monkeypatch.setattr(
        atss, "_paired_iou", lambda a, b: seen.append(a.size // 4) or original(a, b)
    )
    adaptive_positives(anchors, shapes, _boxes(0, 1000, 800, 800), 9)
    assert sum(seen) == 1000 * 5 * 9 * 9 and max(seen) <= 100_000


@pytest.mark.parametrize("count", range(8))
def test_highest_takes_the_first_of_equals(count):
    values = np.array([1, 5, 3, 3, 0, 3, 5], np.float32)
    expected = sorted(np.argsort(-values, kind="stable")[:count])
    np.testing.assert_array_equal(highest(values, count), expected)
