"""Records a sample of mmdetection's outputs; run with a Python that has mmdetection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mmdet_random
import numpy as np

_FOLDER = Path(__file__).resolve().parent
_SAMPLES = 8


def _sample(output):
    places = np.random.RandomState(1).randint(output.size, size=_SAMPLES)
    return {
        "places": places.tolist(),
        "values": [float(f"{value:.7g}") for value in output.ravel()[places]],
        "largest": float(f"{np.abs(output).max():.7g}"),
    }


def main():
    recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, name) for name in ("image.npy", "model.pth", "outputs.npz")]
        np.save(files[0], mmdet_random.synthetic_image())
        for arch in mmdet_random.ARCHITECTURES:
            program = str(_FOLDER / "mmdet_peer.py")
            subprocess.run([sys.executable, program, arch, *files], check=True)
            outputs = dict(np.load(files[2]))
            detections = outputs.pop("detections")[:10]
            recorded[arch] = {name: _sample(output) for name, output in outputs.items()}
            recorded[arch]["detections"] = [[float(f"{v:.7g}") for v in r] for r in detections]
    lines = [
        f'"{arch}": {{\n' + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in parts.items()) + "}"
        for arch, parts in recorded.items()
    ]
    (_FOLDER / "mmdet_outputs.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
