"""Figures of samples and losses: what they show, not how they look."""

from __future__ import annotations

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.errors import UserError
from detectron_ext.experiments import figures
from detectron_ext.experiments.anchor_study import ImageAnchors, Study, _by_anchor
from detectron_ext.sampling.retinanet_sampler import configured_draw


@pytest.fixture
def study():
    """Two images: many easy negatives, few hard ones, fewer positives."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(2):
        overlaps = np.concatenate([rng.uniform(0, 0.1, 900), rng.uniform(0.27, 0.4, 60),
                                   rng.uniform(0.5, 1, 20)]).astype(np.float32)  # fmt: skip
        labels = np.where(overlaps > 0.45, 2, 0).astype(np.int32)
        logits = np.full((980, 3), -4, np.float32)
        logits[900:960, 1] = 0.5  # mistaken for an object
        errors, ious = rng.normal(0, 0.1, (20, 4)), rng.uniform(0.4, 1, 20)
        images.append(ImageAnchors(labels, overlaps, logits, errors, ious))
    return Study(images, np.array([[1.0, 4.0], [2.0, 3.0]]), (3, 4))


@pytest.fixture
def config():
    return configuration.load(overrides=["RETINANET.RETINANET_ON", True])


def _lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_box_losses_equal_their_formulas():
    axes = figures.box_loss_figure(beta=0.11).axes
    gradient = _lines(axes[1])["balanced L1, alpha 0.5"]
    b = np.exp(3) - 1
    inlier = gradient[:, 0] < 1
    np.testing.assert_allclose(gradient[inlier, 1], 0.5 * np.log(b * gradient[inlier, 0] + 1))
    np.testing.assert_allclose(gradient[~inlier, 1], 1.5)
    assert _lines(axes[3])["balanced L1, mmdet"][0, 1] > 3.5
    assert _lines(axes[3])["balanced L1, continuous"][0, 1] < 0.1
    loss = _lines(axes[2])["balanced L1, continuous"]
    slope = np.gradient(loss[:, 1], loss[:, 0])
    continuous = _lines(axes[3])["balanced L1, continuous"]
    np.testing.assert_allclose(slope[50:-50], continuous[50:-50, 1], rtol=0.02)


def test_hard_negatives_have_the_highest_loss(study):
    axes = figures.negatives_figure(study, 0.4, 2.0, seed=0).axes[0]
    shares = {name: points[:, 1] for name, points in _lines(axes).items()}
    for values in shares.values():
        assert values.sum() == pytest.approx(1)
    hardest = {name: values[5:].sum() for name, values in shares.items()}
    # 60 of 960 negatives, all of them drawn by loss: 60 of 256.
    assert hardest["all there are"] == pytest.approx(60 / 960)
    assert hardest["drawn hard: highest loss"] == pytest.approx(60 / 256)
    assert hardest["drawn at random"] < 0.15 < hardest["drawn IoU-balanced, 3 bins"]


def test_the_draw_of_the_model_is_shown(study, config):
    section = "LIBRA.RETINANET_SAMPLER."
    floor = [section + "MODE", "select", section + "FLOOR_THRESH", "0.2"]
    draw = configured_draw(config.with_overrides(floor))
    axes = figures.negatives_figure(study, 0.4, 2.0, 0, draw).axes[0]
    shares = {name: points[:, 1] for name, points in _lines(axes).items()}
    # 60 of 960 negatives have an IoU above the floor. The draw takes all of them.
    assert shares["drawn as this model was trained"][5:].sum() == pytest.approx(60 / 256)
    assert configured_draw(config) is None
    assert len(_lines(figures.negatives_figure(study, 0.4, 2.0, 0).axes[0])) == 4


def test_the_legend_of_the_figure_of_negatives_covers_no_point(study):
    rising = np.repeat(np.arange(8) * 0.05 + 0.025, [5, 8, 15, 30, 60, 120, 240, 482])
    overlaps = np.concatenate([rising, np.ones(20)]).astype(np.float32)
    images = [image._replace(overlaps=overlaps) for image in study.images]
    figure = figures.negatives_figure(study._replace(images=images), 0.4, 2.0, seed=0)
    figure.canvas.draw()
    (axes,) = figure.axes
    legend = axes.get_legend().get_window_extent()
    for line in axes.get_lines():
        for x, y in axes.transData.transform(line.get_xydata()):
            assert not legend.contains(x, y)
    assert not legend.overlaps(axes.xaxis.get_tightbbox(figure.canvas.get_renderer()))
    assert legend.y0 >= figure.bbox.y0


@pytest.mark.parametrize("label, missing", [(0, "positive"), (1, "negative"), (-1, "negative")])
def test_images_without_positives_or_negatives_are_an_error(study, config, label, missing):
    images = [
        image._replace(labels=np.full(980, label, np.int32), box_errors=image.box_errors[:0])
        for image in study.images
    ]
    with pytest.raises(UserError, match=f"none of the 2 training images has a {missing} anchor"):
        if missing == "positive":
            figures.gradient_figure(study._replace(images=images), config)
        figures.negatives_figure(study._replace(images=images), 0.4, 2.0, seed=0)


def test_shares_of_the_gradient_equal_their_definition(study, config):
    shares, names = figures._class_shares(study, config)
    for values in shares.values():
        assert values.sum() == pytest.approx(1)
    last_bin = len(names) - 3
    good = np.mean(np.concatenate([image.box_ious for image in study.images]) > 0.75)
    anchors = shares["anchors\nthemselves"]
    np.testing.assert_allclose(anchors[-2:], [(1 - good) * 20 / 980, good * 20 / 980])
    assert shares["focal"][last_bin] > shares["cross entropy"][last_bin]
    assert shares["focal\nreweight"][last_bin] > shares["focal"][last_bin]
    assert (shares["focal\nreweight"][-2:] < shares["focal"][-2:]).all()
    # All positives have the same logits, so the gradients are in proportion to the weights.
    balanced = shares["focal\nIoU-balanced"]
    np.testing.assert_allclose(balanced[:-2], shares["focal"][:-2], rtol=1e-6)
    wanted = 0.0
    for image in study.images:
        powers = image.box_ious**1.5
        wanted += powers[image.box_ious > 0.75].sum() / powers.sum() / 2
    assert balanced[-1] / balanced[-2:].sum() == pytest.approx(wanted, rel=1e-6)
    _check_gradient_balance(shares, names)
    boxes, names = figures._box_shares(study, config)
    errors = np.abs(np.concatenate([image.box_errors.ravel() for image in study.images]))
    beta, b = config.RETINANET.BBOX_REG_BETA, np.exp(3) - 1
    balanced = np.where(errors < beta, 0.5 * np.log(b * errors / beta + 1), 1.5).sum()
    multiple = balanced / np.minimum(errors / beta, 1).sum()
    (name,) = (name for name in boxes if name.startswith("balanced L1\ncontinuous"))
    assert name.endswith(f"in sum {multiple:.1f} x") and multiple > 1.5
    assert boxes[name][0] > boxes["smooth L1"][0]
    assert len(figures.gradient_figure(study, config).axes) == 2


def _check_gradient_balance(shares, names):
    """The negatives keep their sum, and the bin with the smaller part of it gets more."""
    plain, balanced = shares["focal"], shares["focal\ngradient-\nbalanced"]
    assert len(names) == 5
    np.testing.assert_allclose(balanced[-2:], plain[-2:], rtol=1e-6)
    masses = plain[:3]
    used = masses > 0
    factors = np.clip((masses[used] / masses[used].mean()) ** -0.5, 0.5, 2)
    wanted = factors * masses[used]
    np.testing.assert_allclose(balanced[:3][used], wanted * masses.sum() / wanted.sum(), rtol=1e-5)
    assert balanced[0] > 2 * plain[0] and balanced[2] < plain[2]


def test_energies_show_the_differences_between_levels(study):
    axes = figures.energy_figure(study).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        "before: mean 2.50, largest 4.0 times the smallest",
        "after: mean 2.50, largest 1.5 times the smallest",
    ]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([0.4, 1.6, 0.8, 1.2])
    with pytest.raises(ValueError, match="has no balanced pyramid"):
        figures.energy_figure(study._replace(energies=None))


def test_outputs_have_the_order_of_the_anchors():
    num_anchors, num_classes, height, width = 3, 2, 4, 5
    output = np.arange(num_anchors * num_classes * height * width)
    output = output.reshape(1, num_anchors * num_classes, height, width)
    rows = _by_anchor(output, num_anchors).reshape(num_anchors, height, width, num_classes)
    for anchor, row, column, number in ((0, 0, 0, 0), (2, 3, 1, 1), (1, 2, 4, 0)):
        expected = output[0, anchor * num_classes + number, row, column]
        assert rows[anchor, row, column, number] == expected
