"""Groups of images that are nearly the same."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from detectron_ext.data.near_duplicates import LEAST_CORRELATION, SIDE, near_duplicates, thumbnail


def _scene(seed, height=120, width=160):
    """A grey image of random blots."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 128, np.uint8)
    for _ in range(25):
        middle = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.circle(image, middle, int(rng.integers(5, 30)), int(rng.integers(0, 255)), -1)
    return image


def _jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0)


def _noisy(image):
    return cv2.add(image, np.random.default_rng(1).integers(0, 9, image.shape, np.uint8))


_CHANGES = {
    "compressed": _jpeg,
    "scaled": lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "brightened": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=20),
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image),
    "turned and mirrored": lambda image: np.rot90(image, 3)[:, ::-1],
    "noisy": _noisy,
}


@pytest.mark.parametrize("change", _CHANGES)
def test_a_changed_copy_is_nearly_the_same_and_other_images_are_not(change):
    images = [_scene(seed) for seed in range(20)]
    images.append(_CHANGES[change](images[3]))
    groups = near_duplicates([thumbnail(image) for image in images])
    assert [3, 20] in groups and len(groups) == 20


def test_colours_are_compared_as_grey():
    grey = _scene(0)
    colour = cv2.applyColorMap(grey, cv2.COLORMAP_BONE)
    other = cv2.applyColorMap(_scene(1), cv2.COLORMAP_BONE)
    assert near_duplicates([thumbnail(image) for image in (colour, other, grey)]) == [[0, 2], [1]]


def test_one_composition_with_other_objects_is_not_nearly_the_same():
    """White cards with other spots on other cloths: the lowest frequencies are alike."""
    images = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        cloth = rng.integers(60, 100, (16, 21), np.uint8)
        image = cv2.resize(cloth, (160, 120), interpolation=cv2.INTER_CUBIC)
        image[30:95, 50:115] = 240
        for y, x in rng.integers(0, 55, (6, 2)):
            image[30 + y : 40 + y, 50 + x : 60 + x] = 20
        images.append(image)
    assert len(near_duplicates([thumbnail(image) for image in images])) == 12


def test_one_small_object_on_a_plain_background_is_told_by_its_place():
    images = []
    for x in range(5, 80, 15):
        images.append(np.zeros((96, 160), np.uint8))
        images[-1][20:30, x : x + 12] = 200
    assert len(near_duplicates([thumbnail(image) for image in images])) == len(images)


def test_every_pair_is_compared_as_by_the_definition():
    """The bound from the lowest frequencies leaves no pair out, and no block of images does."""
    rng = np.random.default_rng(0)
    smalls = [cv2.resize(rng.integers(0, 256, (3, 3), np.uint8), (SIDE, SIDE)) for _ in range(300)]
    smalls += [np.rot90(small, k % 4) for k, small in enumerate(smalls[:40])]
    views = [
        [view for turned in (np.rot90(small, k) for k in range(4)) for view in (turned, turned.T)]
        for small in smalls
    ]
    flat = np.array(views, np.float64).reshape(len(smalls), 8, -1)
    flat -= flat.mean(axis=2, keepdims=True)
    flat = np.concatenate((flat, np.full((*flat.shape[:2], 1), 8.0)), axis=2)  # the rounding
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    near = np.einsum("ip,jvp->ijv", flat[:, 0], flat).max(axis=2) >= LEAST_CORRELATION
    _, labels = connected_components(near)
    expected: dict = {}
    for index, label in enumerate(labels.tolist()):
        expected.setdefault(label, []).append(index)
    assert near_duplicates(smalls) == list(expected.values())
    assert 40 <= len(smalls) - len(expected) < 200


def test_copies_of_copies_are_one_group():
    """Images 0 and 4 are linked by image 2 alone."""
    first, last, other = (thumbnail(_scene(seed)).astype(np.float64) for seed in range(3))
    between = first + 0.2 * (last - first)
    further = first + 0.4 * (last - first)
    images = [first, other, between, last, further]
    assert near_duplicates([np.rint(image).astype(np.uint8) for image in images]) == [
        [0, 2, 4], [1], [3]
    ]  # fmt: skip
    direct = near_duplicates([np.rint(image).astype(np.uint8) for image in (first, further)])
    assert direct == [[0], [1]]


def test_images_of_one_value_are_nearly_the_same_and_no_images_are_no_groups():
    dark, bright = (np.full((5, 7), value, np.uint8) for value in (9, 200))
    assert near_duplicates([thumbnail(image) for image in (dark, _scene(0), bright)]) == [
        [0, 2], [1]
    ]  # fmt: skip
    assert near_duplicates([]) == []
