"""Groups of images that are nearly the same."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from detectron_ext.data.image_hash import MOST_DIFFERENT_BITS, image_hashes, near_duplicates


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
    groups = near_duplicates(len(images), images.__getitem__)
    assert [3, 20] in groups and len(groups) == 20


def test_copies_of_copies_are_one_group():
    """Image 2 is like 0 and like 4; no bits need be common to all three."""
    hashes = np.zeros((5, 8), np.uint64)
    near = MOST_DIFFERENT_BITS

    def bits(low, high):
        return np.uint64(sum(1 << bit for bit in range(low, high)))

    hashes[:] = np.array(
        [0, bits(20, 60), bits(0, near), bits(0, 64), bits(0, 2 * near)], np.uint64
    )[:, None]
    patched = pytest.MonkeyPatch()
    patched.setattr("detectron_ext.data.image_hash.image_hashes", lambda index: hashes[index])
    try:
        assert near_duplicates(5, lambda index: index) == [[0, 2, 4], [1], [3]]
        assert near_duplicates(0, lambda index: index) == []
    finally:
        patched.undo()


def test_an_image_of_one_value_has_a_hash():
    assert image_hashes(np.full((5, 7), 9, np.uint8)).shape == (8,)
