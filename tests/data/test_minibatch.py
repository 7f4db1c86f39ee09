from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from detectron_ext.data.minibatch import image_blobs, load_sample, load_samples
from detectron_ext.errors import DatasetError


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("train", [True, False])
def test_default_preparation_equals_that_of_detectron(make_record, config, train):
    record = make_record(width=47, height=31, boxes=[(5, 5, 20, 15)])
    sample = load_sample(record, config, rng(), train)
    scale = 60 / 31
    expected = cv2.imread(record.path).astype(np.float32)
    expected -= config.PIXEL_MEANS
    expected = cv2.resize(expected, None, None, fx=scale, fy=scale)
    assert sample.scale == scale
    np.testing.assert_array_equal(sample.image, expected)
    np.testing.assert_allclose(sample.boxes, record.boxes * scale, rtol=1e-6)
    assert sample.image.dtype == sample.boxes.dtype == np.float32
    assert sample.record is record


def test_one_of_the_training_scales_is_drawn(make_record, config):
    config.TRAIN.SCALES = (15, 60)
    record = make_record()
    generator = rng()
    scales = {load_sample(record, config, generator, True).scale for _ in range(20)}
    assert scales == {0.5, 2.0}


def augment(config, **options):
    for key, value in options.items():
        setattr(config.LIBRA.AUGMENTATION, key, value)


def test_augmentation_depends_on_the_generator_alone(make_record, config):
    augment(
        config,
        FLIP_VERTICAL=True,
        ROTATE90=True,
        SCALE_RANGE=(0.5, 2.0),
        CROP=True,
        COLOR_JITTER=0.3,
    )
    record = make_record(boxes=[(0, 0, 9, 9), (30, 20, 39, 29)])
    before = record.boxes.copy()
    sizes = set()
    for seed in range(20):
        one, two = (load_sample(record, config, rng(seed), True) for _ in range(2))
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.boxes, two.boxes)
        assert len(one.boxes) == len(one.classes) == len(one.is_crowd)
        assert not one.is_crowd.all()
        height, width = one.image.shape[:2]
        assert max(height, width) <= 80
        sizes.add((height, width))
    assert len(sizes) > 3
    np.testing.assert_array_equal(record.boxes, before)


@pytest.mark.parametrize(
    "option, places",
    [
        ("FLIP_VERTICAL", {(10, 10, 40, 30), (10, 28, 40, 48)}),
        ("ROTATE90", {(10, 10, 40, 30), (10, 38, 30, 68), (38, 28, 68, 48), (28, 10, 48, 40)}),
    ],
)
def test_images_and_boxes_are_flipped_and_rotated_in_all_ways(make_record, config, option, places):
    """The image of 40x30 pixels is enlarged to twice its size. Its one box moves with it."""
    record = make_record(40, 30, boxes=[(5, 5, 20, 15)])
    augment(config, **{option: True})
    samples = [load_sample(record, config, rng(seed), True) for seed in range(30)]
    seen = {(tuple(sample.boxes[0]), sample.image.tobytes()) for sample in samples}
    assert {place for place, _ in seen} == places
    assert len(seen) == len({image for _, image in seen}) == len(places)


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_color_jitter_has_the_set_strength_and_keeps_positions(make_record, config, strength):
    plain = load_sample(make_record(), config, rng(), True)
    augment(config, COLOR_JITTER=strength)
    samples = [load_sample(make_record(), config, rng(seed), True) for seed in range(20)]
    assert all((sample.boxes == plain.boxes).all() for sample in samples)
    # Brightness, a factor of the whole image, is what changes its mean.
    mean = np.mean(config.PIXEL_MEANS) + plain.image.mean()
    factors = [1 + (sample.image.mean() - plain.image.mean()) / mean for sample in samples]
    assert 1.1 * strength > max(factors) - 1 > 0.5 * strength
    assert 1.1 * strength > 1 - min(factors) > 0.5 * strength


def test_slight_color_jitter_leaves_the_means_subtracted(make_record, config):
    plain = load_sample(make_record(), config, rng(), True)
    augment(config, COLOR_JITTER=1e-6)
    jittered = load_sample(make_record(), config, rng(), True)
    np.testing.assert_allclose(jittered.image, plain.image, atol=0.01)


def test_scale_jitter_without_crop_keeps_the_longest_side(make_record, config):
    augment(config, SCALE_RANGE=(1.5, 3.0))
    sample = load_sample(make_record(), config, rng(), True)
    assert sample.image.shape == (75, 100, 3)


@pytest.mark.parametrize("boxes", [[], [(5, 5, 20, 15)]])
def test_images_without_objects_can_be_augmented(make_record, config, boxes):
    augment(config, SCALE_RANGE=(1.5, 3.0), CROP=True, ROTATE90=True, FLIP_VERTICAL=True)
    record = make_record(boxes=boxes, is_crowd=[True] * len(boxes))
    sample = load_sample(record, config, rng(), True)
    assert sample.image.shape[:2] in ((60, 80), (80, 60))


def test_blobs_are_padded_to_the_stride(make_record, config):
    samples = [
        load_sample(make_record(40, 30, number=0), config, None, False),
        load_sample(make_record(31, 47, number=1), config, None, False),
    ]
    blobs = image_blobs(samples, config, True)
    assert blobs["data"].shape == (2, 3, 96, 96)
    assert blobs["data"].dtype == blobs["im_info"].dtype == np.float32
    np.testing.assert_allclose(blobs["im_info"], [[60, 80, 2], [91, 60, 60 / 31]], rtol=1e-6)
    # Detectron tests with the padded size; mmdetection never does.
    padded, blobs = blobs, image_blobs(samples, config, False)
    np.testing.assert_allclose(blobs["im_info"], [[96, 96, 2], [96, 96, 60 / 31]], rtol=1e-6)
    config.LIBRA.BOX_CONVENTION = "mmdet"
    blobs = image_blobs(samples, config, False)
    np.testing.assert_array_equal(blobs["im_info"], padded["im_info"])
    first = blobs["data"][0].transpose(1, 2, 0)
    np.testing.assert_array_equal(first[:60, :80], samples[0].image)
    assert not first[60:].any()
    assert not first[:, 80:].any()
    config.FPN.FPN_ON = False
    assert image_blobs(samples, config, False)["data"].shape == (2, 3, 91, 80)


def test_bad_image_is_named_or_replaced(make_record, config, tmp_path, caplog):
    good = [make_record(number=number) for number in range(2)]
    bad = replace(good[0], path=str(tmp_path / "gone.png"))
    with pytest.raises(DatasetError, match=r"gone\.png.*SKIP_BAD_IMAGES"):
        load_samples([bad, *good], [0, 1], config, rng())
    config.LIBRA.DATA.SKIP_BAD_IMAGES = True
    samples = load_samples([*good, bad], [2, 1], config, rng())
    assert [sample.record.image_id for sample in samples] == [0, 1]
    load_samples([*good, bad], [2, 1], config, rng())
    assert caplog.text.count("gone.png") == 1
    with pytest.raises(DatasetError, match="no training image"):
        load_samples([bad, bad], [0], config, rng())
