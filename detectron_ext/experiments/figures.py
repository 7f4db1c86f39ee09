"""Figures of the effects of Libra R-CNN's parts. They can be read in black and white, too.

References to the paper are to Pang et al., "Libra R-CNN" (CVPR 2019).
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from detectron_ext.config.settings import Settings
from detectron_ext.errors import UserError
from detectron_ext.evaluation.plots import COLOURS, finish, new_figure, style
from detectron_ext.experiments.anchor_study import ImageAnchors, Study
from detectron_ext.ops.reference.box_losses import (
    balanced_l1,
    balanced_l1_slope,
    smooth_l1,
    smooth_l1_slope,
)
from detectron_ext.ops.reference.focal_losses import weighted_sigmoid_focal_loss_gradient
from detectron_ext.ops.reference.selected_anchors import select_sigmoid_focal_loss
from detectron_ext.sampling.iou_balanced import sample_iou_balanced
from detectron_ext.sampling.iou_bins import iou_bins
from detectron_ext.sampling.matching import BACKGROUND
from detectron_ext.sampling.negative_weights import bin_factors, keeping_the_total
from detectron_ext.sampling.positive_weights import Positives, weigh_positives
from detectron_ext.sampling.random_sampling import sample_random
from detectron_ext.sampling.retinanet_sampler import Draw, balancing_weights, negative_limit

_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
_HATCHES = ("", "///", "...", "xxx")
_PER_IMAGE = 256
_GOOD_IOU = 0.75


def box_loss_figure(beta: float = 0.11) -> Figure:
    """Plot loss and gradient of smooth L1 and balanced L1 against the error (paper, figure 5).

    The upper row is for beta 1 and several values of alpha. At beta 1 both formulas of balanced L1
    equal that of the paper. The lower row is for ``beta``, where the two formulas differ.

    Args:
        beta: error at which the losses of the lower row become linear.
    """
    figure = new_figure(10, 7.5)
    alphas = [
        (f"balanced L1, alpha {alpha:g}", balanced_l1, balanced_l1_slope, {"alpha": alpha})
        for alpha in (0.2, 0.3, 0.5, 1.0)
    ]
    formulas = [
        (f"balanced L1, {name}", balanced_l1, balanced_l1_slope, {"formula": name})
        for name in ("continuous", "mmdet")
    ]
    smooth: tuple = ("smooth L1", smooth_l1, smooth_l1_slope, {})
    rows: tuple = (([smooth, *alphas], 1.0, 2.0), ([smooth, *formulas], beta, 3 * beta))
    for row, (losses, turn, reach) in enumerate(rows):
        error = np.linspace(0, reach, 801)[1:]
        for column, what in enumerate(("loss", "gradient")):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            for number, (label, loss, slope, options) in enumerate(losses):
                values = (loss, slope)[column](error, beta=turn, **options)
                axes.plot(error, values, label=label, linewidth=1.8, **style(number))
            axes.axvline(turn, color="black", linewidth=0.8, linestyle=":", label="beta")
            axes.set_xlim(0, reach)
            axes.set_ylim(bottom=0)
            title = f"{what.capitalize()}, {('gamma 1.5', 'alpha 0.5, gamma 1.5')[row]}"
            finish(axes, f"{title}, beta {turn:g}", "error of a box coordinate", what)
            axes.legend(frameon=False, fontsize=8)
    return figure


def negatives_figure(
    study: Study, upper: float, gamma: float, seed: int, configured: Draw | None = None
) -> Figure:
    """Plot the IoU of negatives drawn in four ways (paper, figure 3), and as the model drew them.

    Args:
        study: outputs of a trained model.
        upper: IoU below which an anchor is negative.
        gamma: exponent of the focal loss. The hard negatives are those with the largest loss.
        seed: seed of the random draws.
        configured: what drew the negatives in the training of the model; None if all were used.

    Raises:
        UserError: no image has a negative anchor.
    """
    _check_some(study, "negative", [image.labels == BACKGROUND for image in study.images])
    rng = np.random.default_rng(seed)
    names = ("at random", "IoU-balanced, 3 bins", "hard: highest loss")
    ways: dict = {"all there are": [], **{f"drawn {name}": [] for name in names}}
    as_trained: list = []
    for image in study.images:
        negatives = np.flatnonzero(image.labels == BACKGROUND)
        losses = _negative_losses(image.logits[negatives].astype(np.float64), gamma)
        hard = np.argsort(-losses, kind="mergesort")[:_PER_IMAGE]
        drawn = (
            negatives,
            sample_random(negatives, _PER_IMAGE, rng),
            sample_iou_balanced(image.overlaps, negatives, _PER_IMAGE, rng, upper=upper),
            negatives[hard],
        )
        for values, indices in zip(ways.values(), drawn):
            values.append(image.overlaps[indices])
        if configured is not None:
            chosen = configured(image.overlaps, negatives, _PER_IMAGE, rng)
            as_trained.append(image.overlaps[chosen])
    if configured is not None:
        ways["drawn as this model was trained"] = as_trained
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot(1, 1, 1)
    edges = np.linspace(0, upper, 9)
    middles = (edges[1:] + edges[:-1]) / 2
    for number, (name, values) in enumerate(ways.items()):
        counts = np.histogram(np.concatenate(values), edges)[0]
        shares = counts / counts.sum()
        marker = "os^Dv"[number]
        axes.plot(middles, shares, marker=marker, linewidth=1.6, label=name, **style(number))
    axes.set_yscale("log")
    axes.set_yticks([0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    title = f"Negatives, {_PER_IMAGE} drawn in each of {len(study.images)} training images"
    finish(axes, title, f"IoU with the nearest object (bins of {upper / 8:g})", "share")
    _legend_below(axes, fontsize=9)  # inside the axes it could cover the curves
    return figure


def _check_some(study: Study, kind: str, masks: Sequence[np.ndarray]) -> None:
    if not any(mask.any() for mask in masks):
        raise UserError(
            f"none of the {len(study.images)} training images has a {kind} anchor, so there is "
            "nothing to draw: use more images with --images"
        )


def _negative_losses(logits: np.ndarray, gamma: float) -> np.ndarray:
    """Return the focal loss (N,) of negatives with logits (N, C), without its constant factor."""
    cross_entropy = np.logaddexp(0, logits)  # -log(1 - p)
    return (np.exp(gamma * (logits - cross_entropy)) * cross_entropy).sum(axis=1)


def energy_figure(study: Study) -> Figure:
    """Plot the mean squared features of each pyramid level before and after balancing.

    Each is shown relative to its mean over the levels, because balancing also adds energy to every
    level.

    Raises:
        ValueError: the model has no balanced pyramid.
    """
    if study.energies is None:
        raise ValueError("the model has no balanced pyramid")
    figure = new_figure(7, 4)
    axes = figure.add_subplot(1, 1, 1)
    places = np.arange(len(study.levels))
    for part, (name, energies) in enumerate(zip(("before", "after"), study.energies)):
        spread = f"{energies.max() / energies.min():.1f} times the smallest"
        bars = axes.bar(
            places + (part - 0.5) * 0.38, energies / energies.mean(), 0.36, edgecolor="black",
            label=f"{name}: mean {energies.mean():.2f}, largest {spread}",
            color=COLOURS[part], alpha=0.55, hatch=_HATCHES[part],
        )  # fmt: skip
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2, bbox=_BEHIND_TEXT)
    axes.set_xticks(places)
    axes.set_xticklabels([f"P{level}" for level in study.levels])
    title = f"Feature energy, balanced pyramid, {len(study.images)} training images"
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
    finish(axes, title, "pyramid level", "mean of squared features / levels' mean")
    axes.set_ylim(top=1.3 * (study.energies / study.energies.mean(axis=1, keepdims=True)).max())
    axes.legend(frameon=False, loc="upper left")
    return figure


def gradient_figure(study: Study, config: Settings) -> Figure:
    """Plot the share of each group of samples in the gradient of each loss.

    On the left is the box loss of the positives, grouped by the size of their error relative to
    beta. Below the name of a loss is the sum of its gradients as a multiple of that of smooth L1.
    On the right is the class loss, grouped by label, the negatives also by their IoU, and the
    positives by the IoU of their predicted boxes.

    Raises:
        UserError: no image has a positive anchor.
    """
    _check_some(study, "positive", [image.labels > BACKGROUND for image in study.images])
    figure = new_figure(12.5, 4.8)
    panels = (
        (*_box_shares(study, config), "Who moves the boxes", "error of a coordinate of a positive"),
        (*_class_shares(study, config), "Who moves the classes", "anchor"),
    )
    # A bar of either panel has the same room for its name.
    grid = figure.add_gridspec(1, 2, width_ratios=[len(shares) for shares, *_ in panels])
    for column, (shares, names, title, legend) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        _stacked(axes, shares, names, f"{title}: sums of gradient sizes", legend)
    return figure


def _box_shares(study: Study, config: Settings) -> tuple[dict[str, np.ndarray], list[str]]:
    beta = config.RETINANET.BBOX_REG_BETA
    errors = np.concatenate([image.box_errors.ravel() for image in study.images]).astype(np.float64)
    groups = np.digitize(np.abs(errors), [beta / 2, beta])
    names = ["easy: below beta/2", "beta/2 to beta", "hard: beta and above"]
    gradients = {
        "errors\nthemselves": np.ones(len(errors)),
        "smooth L1": smooth_l1_slope(errors, beta),
        "balanced L1\ncontinuous": balanced_l1_slope(errors, beta=beta),
        "balanced L1\nmmdet": balanced_l1_slope(errors, beta=beta, formula="mmdet"),
    }
    shares = _shares(gradients, groups, len(names))
    sums = {name: np.abs(values).sum() for name, values in gradients.items()}
    return {_with_multiple(name, sums): share for name, share in shares.items()}, names


def _with_multiple(name: str, sums: dict[str, float]) -> str:
    """Return the name of a loss and, below it, its gradient sum as a multiple of smooth L1's."""
    if not name.startswith("balanced"):
        return name
    return f"{name}\nin sum {sums[name] / sums['smooth L1']:.1f} x"


def _class_shares(study: Study, config: Settings) -> tuple[dict[str, np.ndarray], list[str]]:
    retinanet = config.RETINANET
    upper = negative_limit(config)
    num_bins = config.LIBRA.RETINANET_SAMPLER.NUM_BINS
    names = [f"negative, IoU bin {k + 1} of {num_bins}" for k in range(num_bins)]
    names += [f"positive, predicted IoU {side} {_GOOD_IOU}" for side in ("up to", "above")]
    parts: dict = {
        "anchors\nthemselves": [],
        "cross entropy": [],
        "focal": [],
        "focal\nreweight": [],
        "focal\nIoU-balanced": [],
    }
    groups = []
    for image in study.images:
        counted = np.flatnonzero(image.labels >= BACKGROUND)
        ones = np.ones(len(image.labels))
        weights = balancing_weights(image.labels, image.overlaps, upper=upper, num_bins=num_bins)
        gamma, alpha = retinanet.LOSS_GAMMA, retinanet.LOSS_ALPHA
        values = (
            ones,
            _class_gradients(image, ones, 0.0, 0.5),
            _class_gradients(image, ones, gamma, alpha),
            _class_gradients(image, weights, gamma, alpha),
            _class_gradients(image, _iou_balanced_weights(image, config), gamma, alpha),
        )
        for part, value in zip(parts.values(), values):
            part.append(value[counted])
        bins = iou_bins(image.overlaps[counted], 0.0, upper, num_bins)
        bins = np.array(bins)
        bins[image.labels[counted] > BACKGROUND] = num_bins + (image.box_ious > _GOOD_IOU)
        groups.append(bins)
    gradients = {name: np.concatenate(part) for name, part in parts.items()}
    of_anchors = np.concatenate(groups)
    gradients["focal\ngradient-\nbalanced"] = _gradient_balanced(
        gradients["focal"], of_anchors, num_bins, config
    )
    return _shares(gradients, of_anchors, len(names)), names


def _gradient_balanced(
    gradients: np.ndarray, bins: np.ndarray, num_bins: int, config: Settings
) -> np.ndarray:
    """Return gradients (A,) with the weights of LIBRA.RETINANET_NEGATIVES gradient_balanced.

    The masses of the bins are those of these anchors, not a running average.

    Args:
        gradients: (A,) float, at least 0.
        bins: (A,) int, 0 to num_bins - 1 for negatives, num_bins or more for positives.
        num_bins: number of bins.
        config: LIBRA.RETINANET_NEGATIVES is used.
    """
    settings = config.LIBRA.RETINANET_NEGATIVES
    negative = bins < num_bins
    masses = np.bincount(bins[negative], gradients[negative], minlength=num_bins)
    factors = bin_factors(masses.astype(np.float32), settings.TAU, settings.CLIP)
    balanced = gradients.copy()
    balanced[negative] *= keeping_the_total(factors, masses)[bins[negative]]
    return balanced


def _iou_balanced_weights(image: ImageAnchors, config: Settings) -> np.ndarray:
    """Return the weights (A,) of all anchors of LIBRA.RETINANET_WEIGHTS.POSITIVE iou_balanced."""
    weights = np.ones(len(image.labels))
    rows = np.flatnonzero(image.labels > BACKGROUND)
    places = np.zeros((len(rows), 4))
    places[:, 1] = 4 * rows
    losses, scores = select_sigmoid_focal_loss(
        image.logits.reshape(1, -1, 1, 1), image.labels.reshape(1, -1, 1, 1), places,
        gamma=config.RETINANET.LOSS_GAMMA, alpha=config.RETINANET.LOSS_ALPHA,
        num_classes=image.logits.shape[1],
    )  # fmt: skip
    zeros = np.zeros(len(rows), dtype=np.int64)
    positives = Positives(image.box_ious, losses, scores, image.labels[rows], zeros, zeros)
    factors = image.box_ious**config.LIBRA.RETINANET_WEIGHTS.ETA
    weights[rows] = weigh_positives(positives, factors, per_image=True)
    return weights


def _class_gradients(
    image: ImageAnchors, weights: np.ndarray, gamma: float, alpha: float
) -> np.ndarray:
    """Return the absolute gradient (A,) of each anchor's logits, summed over classes."""
    num_anchors, num_classes = image.logits.shape
    gradient = weighted_sigmoid_focal_loss_gradient(
        image.logits.reshape(1, -1, 1, 1), image.labels.reshape(1, -1, 1, 1), 1.0,
        weights.reshape(1, -1, 1, 1), 1.0, gamma=gamma, alpha=alpha, num_classes=num_classes,
    )  # fmt: skip
    return np.abs(gradient).reshape(num_anchors, num_classes).sum(axis=1)


def _shares(
    gradients: dict[str, np.ndarray], groups: np.ndarray, num_groups: int
) -> dict[str, np.ndarray]:
    """Return {name of loss: (G,)}, the share of each group in the sum of absolute gradients."""
    sums = {
        name: np.bincount(groups, np.abs(values), minlength=num_groups)
        for name, values in gradients.items()
    }
    return {name: values / values.sum() for name, values in sums.items()}


def _stacked(axes: Axes, shares: dict, names: Sequence[str], title: str, legend: str) -> None:
    bottom = np.zeros(len(shares))
    for group, name in enumerate(names):
        heights = np.array([values[group] for values in shares.values()])
        bars = axes.bar(
            list(shares), heights, 0.62, bottom, label=name, edgecolor="black", linewidth=0.8,
            color=COLOURS[group % len(COLOURS)], alpha=0.55, hatch=_HATCHES[group % len(_HATCHES)],
        )  # fmt: skip
        labels = [f"{100 * height:.0f} %" if height > 0.02 else "" for height in heights]
        axes.bar_label(bars, labels, label_type="center", fontsize=8.5, bbox=_BEHIND_TEXT)
        bottom += heights
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    finish(axes, title, "", "share of the sum")
    _legend_below(axes, title=legend, fontsize=8)


def _legend_below(axes: Axes, **options) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2, **options)
