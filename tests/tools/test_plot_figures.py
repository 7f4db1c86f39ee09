"""tools/plot_figures.py."""

from __future__ import annotations

import shutil

import cv2
import pytest
from tool_runner import failure, run_tool


@pytest.fixture(scope="module")
def balanced(_trained, tmp_path_factory):
    """Output folder of a tiny RetinaNet with a balanced pyramid, after one iteration."""
    folder = tmp_path_factory.mktemp("balanced")
    outcome = run_tool(
        "train_net", "--cfg", _trained[0].cfg, "--skip-test", "SOLVER.MAX_ITER", 1,
        "OUTPUT_DIR", folder, "LIBRA.BFP.ON", True,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    return folder


def _pictures(folder):
    names = {path.stem for path in folder.glob("*.svg")}
    for name in names:
        image = cv2.imread(str(folder / f"{name}.png"))
        assert min(image.shape[:2]) > 300 and image.std() > 10
    return names


def test_a_model_gives_all_figures(workplace, balanced, tmp_path):
    weights = balanced / "train" / "squares" / "retinanet" / "model_final.pkl"
    outcome = run_tool(
        "plot_figures", "LIBRA.BFP.ON", True, "--cfg", workplace.cfg, "--wts", weights, "--images",
        3, "--output-dir", tmp_path, "--runs", workplace.folder / "output", "--names", "tiny",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    expected = {"box_loss", "training", "negatives", "gradient_shares", "feature_energy"}
    assert _pictures(tmp_path) == expected


def test_only_the_losses_are_drawn_without_a_model(tmp_path):
    assert run_tool("plot_figures", "--output-dir", tmp_path).status == 0
    assert _pictures(tmp_path) == {"box_loss"}


def test_a_log_that_is_cut_off_is_reported(workplace, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(str(workplace.folder / "output"), str(run))
    with next(run.glob("train/*/*/stats.jsonl")).open("a") as log:
        log.write('{"iter": 20, "lo')
    outcome = run_tool("plot_figures", "--output-dir", tmp_path / "out", "--runs", run)
    assert outcome.status == 0 and "damaged lines in stats.jsonl: 1" in outcome.err


def test_mistakes_give_one_line_errors(workplace, tmp_path):
    for arguments, message in (
        (("--cfg", workplace.cfg), "--cfg and --wts go together"),
        (("--cfg", workplace.cfg, "--wts", tmp_path / "none.pkl"), "not found"),
        (("--runs", tmp_path), "has no finished test"),
        (("--runs", workplace.folder / "output", "--names", "a", "b"), "1 runs, 2 names"),
        (("--runs", workplace.folder, workplace.folder), "two runs are called"),
        (("SOLVER.MAX_ITER", 3), "SOLVER.MAX_ITER overrides a key of --cfg, which is missing"),
        (("--images", 0), "--images must be at least 1"),
    ):
        outcome = run_tool("plot_figures", "--output-dir", tmp_path / "out", *arguments)
        assert message in failure(outcome)
