"""Drawing figures of losses, samplers and training, each as PNG and SVG."""

from __future__ import annotations

import logging
import os
from typing import Sequence

from matplotlib.figure import Figure

from detectron_ext.commands.pictures import check_pictures, make_picture_folder
from detectron_ext.config import Config
from detectron_ext.errors import UserError
from detectron_ext.evaluation.comparable import check_names
from detectron_ext.evaluation.plots import training_curves, write_figure
from detectron_ext.evaluation.run_folder import open_run
from detectron_ext.experiments.anchor_study import study_training_images
from detectron_ext.experiments.differences import differences_figure, read_differences
from detectron_ext.experiments.figures import (
    box_loss_figure,
    energy_figure,
    gradient_figure,
    negatives_figure,
)
from detectron_ext.sampling.retinanet_sampler import configured_draw, negative_limit

_LOG = logging.getLogger(__name__)


def plot_figures(
    output_dir: str,
    config: Config | None = None,
    weights: str = "",
    num_images: int = 32,
    runs: Sequence[str] = (),
    names: Sequence[str] = (),
    results: Sequence[str] = (),
) -> list[str]:
    """Draw all figures that the given inputs allow.

    - ``box_loss``: always.
    - ``negatives`` and ``gradient_shares``: with a trained RetinaNet.
    - ``feature_energy``: with a trained RetinaNet that has a balanced pyramid.
    - ``training``: with runs.
    - ``differences``: with results of sweeps.

    Args:
        output_dir: folder for a PNG and an SVG of each figure.
        config: a merged configuration of the trained RetinaNet; None without one.
        weights: its weights file.
        num_images: number of training images that the RetinaNet is run on.
        runs: output folders of runs, for the training curves.
        names: names of the runs; by default their folders.

    Returns:
        Paths of the PNG files.

    Raises:
        UserError: weights, data, runs or results cannot be used; the images have no positive or no
            negative anchors; two runs have the same name; or the folder cannot be written.
    """
    if names and len(names) != len(runs):
        raise UserError(
            f"--names must have a name for each of --runs: {len(runs)} runs, {len(names)} names"
        )
    check_names(names or runs)
    check_pictures(output_dir)
    figures = {"box_loss": box_loss_figure()}
    if runs:
        figures["training"] = _curves(names or runs, runs)
    if results:
        figures["differences"] = differences_figure(read_differences(results))
    if config is not None:
        study = study_training_images(config, weights, num_images)
        retinanet = config.RETINANET
        figures["negatives"] = negatives_figure(
            study, negative_limit(config), retinanet.LOSS_GAMMA, config.RNG_SEED,
            configured_draw(config),
        )  # fmt: skip
        figures["gradient_shares"] = gradient_figure(study, config)
        if study.energies is not None:
            figures["feature_energy"] = energy_figure(study)
    make_picture_folder(output_dir)
    return [_save(figure, os.path.join(output_dir, name)) for name, figure in figures.items()]


def _curves(names: Sequence[str], folders: Sequence[str]) -> Figure:
    runs = [open_run(folder) for folder in folders]
    logs = {name: run.training().entries for name, run in zip(names, runs)}
    for run in runs:
        for warning in run.warnings:
            _LOG.warning("%s", warning)
    curves = training_curves(logs)
    if curves is None:
        raise UserError(f"{folders[0]} has no training log to draw (train/*/*/stats.jsonl)")
    return curves


def _save(figure: Figure, path: str) -> str:
    for kind in ("svg", "png"):
        write_figure(f"{path}.{kind}", figure)
    _LOG.info("written: %s.png and .svg", path)
    return path + ".png"
