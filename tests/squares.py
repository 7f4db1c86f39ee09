"""A tiny data set and configuration that train in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]


def make_squares(folder: Path, num_images: int, seed: int = 0) -> dict:
    """Bright squares (class 1) and dark discs (class 2) on grey; returns a catalog entry."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        image = np.full((128, 128, 3), 128, np.uint8) + rng.integers(0, 20, (128, 128, 3), np.uint8)
        for column in range(2):
            size = int(rng.integers(28, 50))
            x, y = column * 64 + int(rng.integers(0, 64 - size)), int(rng.integers(0, 128 - size))
            category = int(rng.integers(1, 3))
            if category == 1:
                cv2.rectangle(image, (x, y), (x + size - 1, y + size - 1), (230, 230, 90), -1)
            else:
                cv2.circle(image, (x + size // 2, y + size // 2), size // 2, (20, 20, 60), -1)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": category,
                    "bbox": [x, y, size, size], "area": size * size, "iscrowd": 0,
                }
            )  # fmt: skip
        name = f"{image_id}.png"
        cv2.imwrite(str(folder / "images" / name), image)
        images.append({"id": image_id, "file_name": name, "width": 128, "height": 128})
    categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return {"im_dir": str(folder / "images"), "ann_fn": str(folder / "annotations.json")}


def write_tiny_config(folder: Path) -> Path:
    """Write 8 images and the configuration of a tiny RetinaNet on them; returns its path."""
    return _write_config(folder, "retinanet_R-36-tiny.yaml", {"FPN.COARSEST_STRIDE": 128})


def write_tiny_rcnn_config(folder: Path) -> Path:
    """Write 8 images and the configuration of a tiny Faster R-CNN on them; returns its path."""
    settings = {
        "FPN.DIM": 32,
        "FPN.COARSEST_STRIDE": 64,
        "FAST_RCNN.MLP_HEAD_DIM": 64,
        "GROUP_NORM.NUM_GROUPS": 8,
        "TRAIN.BATCH_SIZE_PER_IM": 32,
        "TRAIN.RPN_BATCH_SIZE_PER_IM": 32,
        "TRAIN.USE_FLIPPED": False,
    }
    return _write_config(folder, "faster_rcnn_R-36-tiny.yaml", settings)


def _write_config(folder: Path, base: str, settings: dict) -> Path:
    settings = {
        "MODEL.NUM_CLASSES": 3,
        "FPN.DIM": 64,
        "TRAIN.DATASETS": ["squares"],
        "TRAIN.SCALES": [128],
        "TRAIN.MAX_SIZE": 128,
        "TRAIN.IMS_PER_BATCH": 4,
        "TRAIN.SNAPSHOT_ITERS": 3,
        "TEST.DATASETS": ["squares"],
        "TEST.SCALE": 128,
        "TEST.MAX_SIZE": 128,
        "SOLVER.MAX_ITER": 6,
        "SOLVER.WARM_UP_ITERS": 3,
        "DATA_LOADER.NUM_THREADS": 2,
        "DATA_LOADER.MINIBATCH_QUEUE_SIZE": 4,
        **settings,
    }
    tree: dict = {
        "_BASE_": str(REPOSITORY / "configs" / base),
        "DATASETS_EXTRA": {"squares": make_squares(folder / "squares", 8)},
        "OUTPUT_DIR": str(folder / "output"),
    }
    for name, value in settings.items():
        section, key = name.split(".")
        tree.setdefault(section, {})[key] = value
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML
    return path
