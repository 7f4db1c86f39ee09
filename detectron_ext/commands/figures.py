"""Drawing the figures, each as PNG and SVG."""

from __future__ import annotations

import logging
import os
from typing import Sequence

from detectron_ext.commands.pictures import prepare_folder
from detectron_ext.errors import UserError
from detectron_ext.evaluation.comparable import check_names
from detectron_ext.evaluation.plots import training_curves
from detectron_ext.evaluation.run_folder import open_run
from detectron_ext.experiments.anchor_study import study_training_images
from detectron_ext.experiments.figures import (
    box_loss_figure,
    energy_figure,
    gradient_figure,
    negatives_figure,
)

_LOG = logging.getLogger(__name__)


def plot_figures(
    output_dir: str,
    config=None,
    weights: str = "",
    num_images: int = 32,
    runs: Sequence[str] = (),
    names: Sequence[str] = (),
) -> list:
    """Draw what can be drawn from what is given.

    Always ``box_loss``; with a trained RetinaNet ``negatives`` and ``gradient_shares``, and where
    it has a balanced pyramid ``feature_energy``; with runs ``training``.

    Args:
        output_dir: gets a PNG and an SVG of each.
        config: of the trained model.
        weights: its weights file.
        num_images: training images that it is run on.
        runs: folders of tested runs, for their training curves.
        names: of the runs; their folders' by default.

    Returns:
        Paths of the PNG files.

    Raises:
        UserError: bad weights, data or runs, images without positive or negative anchors, two runs
            of one name, or a folder that cannot be written.
    """
    if names and len(names) != len(runs):
        raise UserError(f"--names needs {len(runs)} names, one a run, given {len(names)}")
    check_names(names or runs)
    prepare_folder(output_dir)
    figures = {"box_loss": box_loss_figure()}
    if runs:
        figures["training"] = _curves(names or runs, runs)
    if config is not None:
        study = study_training_images(config, weights, num_images)
        retinanet = config.RETINANET
        figures["negatives"] = negatives_figure(
            study, retinanet.NEGATIVE_OVERLAP, retinanet.LOSS_GAMMA, config.RNG_SEED
        )
        figures["gradient_shares"] = gradient_figure(study, config)
        if study.energies is not None:
            figures["feature_energy"] = energy_figure(study)
    return [_save(figure, os.path.join(output_dir, name)) for name, figure in figures.items()]


def _curves(names: Sequence[str], folders: Sequence[str]):
    runs = [open_run(folder) for folder in folders]
    logs = {name: run.training().entries for name, run in zip(names, runs)}
    for run in runs:
        for warning in run.warnings:
            _LOG.warning("%s", warning)
    curves = training_curves(logs)
    if curves is None:
        raise UserError(f"{folders[0]} holds no training log to draw (train/*/*/stats.jsonl)")
    return curves


def _save(figure, path: str) -> str:
    try:
        for kind in ("svg", "png"):
            figure.savefig(f"{path}.{kind}", dpi=130)
    except OSError as error:
        raise UserError(f"{path}.{kind} cannot be written: {error.strerror}") from error
    _LOG.info("written: %s.png and .svg", path)
    return path + ".png"
