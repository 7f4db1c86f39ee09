"""Upstream's own tools train, test and draw on the CPU with LIBRA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_models import LIBRA, write_config, write_weights
from squares import REPOSITORY

from detectron_ext.engine.weights_file import read_weights

_FOLDERS = {"retinanet": "retinanet", "faster_rcnn": "generalized_rcnn"}
# Newer pycocotools needs one crowd flag for each ground-truth box. The test passes one for each
# prediction.
_FAILS_ANYWHERE = "test_bbox_transform.TestBboxTransform.test_bbox_dataset_to_prediction_roundtrip"


@pytest.fixture
def run(environment, tmp_path):
    """Return a function that runs Python with arguments and returns what it printed."""

    def run_python(*arguments):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return run_python


def _losses(log):
    lines = [line for line in log.splitlines() if line.startswith("json_stats: ")]
    return [float(json.loads(line.partition(": ")[2])["loss"]) for line in lines]


@pytest.mark.parametrize("model", ["retinanet", "faster_rcnn"])
def test_the_tools_train_test_and_draw(run, checkout, tmp_path, model):
    config = write_config(tmp_path, model, LIBRA)
    ours = ("--upstream", checkout, "--cfg", config)
    start = write_weights(config)
    log = run(REPOSITORY / "tools/train_net.py", *ours, "--skip-test", "TRAIN.WEIGHTS", start)
    losses = _losses(log)
    assert len(losses) == 5 and losses[-1] < 0.8 * losses[0]
    assert "gradient_norm" in log

    weights = tmp_path / f"output/train/squares/{_FOLDERS[model]}/model_final.pkl"
    theirs = ("-m", "detectron_ext.upstream")
    log = run(*theirs, checkout / "tools/test_net.py", "--cfg", config, "TEST.WEIGHTS", weights)
    assert "copypaste: AP,AP50,AP75,APs,APm,APl" in log
    pictures = tmp_path / "pictures"
    run(
        *theirs, checkout / "tools/infer_simple.py", "--cfg", config, "--wts", weights,
        "--output-dir", pictures, "--always-out", "--output-ext", "png", "--image-ext", "png",
        "--thresh", "0.0", tmp_path / "squares/images",
    )  # fmt: skip
    assert len(list(pictures.glob("*.png"))) == 8


def test_weights_by_predictions_train_in_upstreams_loop(run, checkout, tmp_path):
    weights = {"POSITIVE": "iou_balanced", "BOX": "iou_balanced", "SHUFFLED": True}
    config = write_config(tmp_path, "retinanet", {"RETINANET_WEIGHTS": weights})
    ours = ("--upstream", checkout, "--cfg", config, "--skip-test", "SOLVER.MAX_ITER", 1)
    assert len(_losses(run(REPOSITORY / "tools/train_net.py", *ours))) == 1


def test_upstreams_weights_hold_the_running_gradients_of_negatives(run, checkout, tmp_path):
    negatives = {"WEIGHTS": "gradient_balanced", "SHUFFLED": "bins"}
    config = write_config(tmp_path, "retinanet", {"RETINANET_NEGATIVES": negatives})
    ours = ("--upstream", checkout, "--cfg", config, "--skip-test", "SOLVER.MAX_ITER", 2)
    log = run(REPOSITORY / "tools/train_net.py", *ours)
    assert len(_losses(log)) == 2
    weights = tmp_path / f"output/train/squares/{_FOLDERS['retinanet']}/model_final.pkl"
    masses = read_weights(str(weights)).blobs["retnet_negative_masses"]
    assert masses.shape == (3,) and masses.min() > 0


def test_one_line_in_an_upstream_script_installs_the_parts(run, checkout, tmp_path, environment):
    config = write_config(tmp_path, "retinanet", LIBRA)
    script = (checkout / "tools/train_net.py").read_text()
    marker = "\n\ndef parse_args"  # after everything was imported
    assert marker in script
    line = "\nfrom detectron_ext import upstream; upstream.install()\n"
    (tmp_path / "train_net.py").write_text(script.replace(marker, line + marker, 1))
    environment["PYTHONPATH"] += os.pathsep + str(checkout)
    log = run("train_net.py", "--cfg", config, "--skip-test", "SOLVER.MAX_ITER", 1)
    assert len(_losses(log)) == 1


def test_python_operators_replace_the_native_library(run, checkout, tmp_path, environment):
    config = write_config(tmp_path, "faster_rcnn", LIBRA)
    environment["DETECTRON_EXT_OPS"] = "python"
    arguments = ("--upstream", checkout, "--cfg", config, "--skip-test", "SOLVER.MAX_ITER", 2)
    log = run(REPOSITORY / "tools/train_net.py", *arguments)
    assert len(_losses(log)) == 2
    assert 'type: "Python"' in (tmp_path / _proto("generalized_rcnn")).read_text()


def _proto(folder):
    return f"output/train/squares/{folder}/net.pbtxt"


def test_upstreams_unit_tests_give_the_same_results_with_the_adapter(run, checkout):
    script = Path(__file__).with_name("unit_tests.py")
    plain, installed = (
        json.loads(run(script, checkout, *options).splitlines()[-1])
        for options in ([], ["install"])
    )
    assert plain.keys() == installed.keys() and len(plain) > 10
    failing = {name for name, outcome in installed.items() if outcome != "passed"}
    assert failing <= {f"detectron.tests.{_FAILS_ANYWHERE}"}, failing
    assert all(plain[name] == installed[name] for name in failing)
