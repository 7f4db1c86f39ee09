"""What the weights of a training do not depend on, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import pytest
from squares import REPOSITORY, write_tiny_config

from detectron_ext.engine.weights_file import read_weights

_SETTINGS = [
    "SOLVER.MAX_ITER", 20, "TRAIN.SNAPSHOT_ITERS", 1000, "TRAIN.IMS_PER_BATCH", 2,
    "TRAIN.SCALES", "(96,)", "LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True",
]  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return a function: numbers of threads of operators and of the loader -> final weights."""
    folder = tmp_path_factory.mktemp("threads")
    config = write_tiny_config(folder)

    def train(threads, loader_threads):
        output = folder / f"{threads}-{loader_threads}"
        command = [
            sys.executable, "tools/train_net.py", "--skip-test", "--cfg", config, *_SETTINGS,
            "OUTPUT_DIR", output, "LIBRA.THREADS", threads,
            "DATA_LOADER.NUM_THREADS", loader_threads,
        ]  # fmt: skip
        subprocess.run(
            list(map(str, command)), cwd=str(REPOSITORY), check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return read_weights(str(output / "train/squares/retinanet/model_final.pkl")).blobs

    return train


def test_weights_depend_neither_on_threads_nor_on_the_loader(weights):
    one = weights(1, 1)
    for threads, loader_threads in ((2, 4), (4, 2)):
        other = weights(threads, loader_threads)
        assert one.keys() == other.keys()
        for name, blob in one.items():
            assert blob.tobytes() == other[name].tobytes(), (name, threads)
