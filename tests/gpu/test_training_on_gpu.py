"""Ten iterations on one GPU have the losses of the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext import config as configuration
from detectron_ext.engine.train import train

DETECTORS = {"retinanet": write_tiny_config, "faster_rcnn": write_tiny_rcnn_config}
LIBRA = [
    "LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True",
    "LIBRA.SAMPLER.NEGATIVE", "iou_balanced", "LIBRA.RETINANET_SAMPLER.MODE", "reweight",
]  # fmt: skip
# The devices sum in different orders, and each step starts from the difference of the last one.
TOLERANCE_AT_FIRST, TOLERANCE = 1e-4, 1e-2


@pytest.mark.parametrize("libra", [[], LIBRA], ids=["plain", "libra"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_ten_iterations_have_the_losses_of_the_cpu(detector, libra, tmp_path):
    path = DETECTORS[detector](tmp_path)

    def losses(gpus: int, *overrides: str) -> list[dict]:
        settings = [*libra, "NUM_GPUS", str(gpus), "LIBRA.LOG_PERIOD", "1", *overrides]
        weights = Path(train(configuration.load(str(path), settings)))
        lines = [json.loads(line) for line in (weights.parent / "stats.jsonl").open()]
        for line in lines:
            print(f"{detector}, {gpus} GPUs, iteration {line['iter']}: loss {line['loss']:.6f}")
        return [{k: v for k, v in line.items() if "loss" in k} for line in lines]

    # Initialisers draw other numbers on a GPU, so both runs start from the same weights.
    start = tmp_path / "start"
    losses(0, "OUTPUT_DIR", str(start), "SOLVER.MAX_ITER", "1")
    (weights,) = start.rglob("model_final.pkl")
    run = ["TRAIN.WEIGHTS", str(weights), "SOLVER.MAX_ITER", "10"]
    on_cpu = losses(0, "OUTPUT_DIR", str(tmp_path / "cpu"), *run)
    on_gpu = losses(1, "OUTPUT_DIR", str(tmp_path / "gpu"), *run)

    assert len(on_cpu) == len(on_gpu) == 10
    for iteration, (a, b) in enumerate(zip(on_cpu, on_gpu)):
        assert a.keys() == b.keys()
        tolerance = TOLERANCE if iteration else TOLERANCE_AT_FIRST
        for name in a:
            np.testing.assert_allclose(
                b[name], a[name], rtol=tolerance, atol=tolerance * a["loss"], err_msg=name
            )
