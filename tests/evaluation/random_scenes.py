"""Random ground truth and detections of every kind that COCO's rules tell apart."""

from __future__ import annotations

import numpy as np
from pycocotools.coco import COCO

CATEGORIES = {3: "cat", 5: "dog", 9: "owl"}


def scene(seed: int, num_images: int = 12) -> tuple:
    """Ground truth (COCO) and detections: all sizes, crowds, equal scores, classes left out."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image in range(1, num_images + 1):
        for _ in range(int(rng.integers(0, 5))):
            side = float(rng.choice([12, 50, 150]))
            box = [*rng.uniform(0, 200, 2), side, side * rng.uniform(0.6, 1.4)]
            category = int(rng.choice([3, 5]))
            annotations.append(
                {
                    "id": len(annotations), "image_id": image, "category_id": category,
                    "bbox": box, "iscrowd": int(rng.random() < 0.1),
                }
            )  # fmt: skip
            for _ in range(int(rng.integers(0, 3))):
                moved = [value + rng.normal(0, side / 12) for value in box]
                detections.append(_found(image, category, moved, rng))
        for _ in range(int(rng.integers(0, 3))):
            box = [*rng.uniform(0, 200, 2), *rng.uniform(10, 120, 2)]
            detections.append(_found(image, int(rng.choice(list(CATEGORIES))), box, rng))
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 400, "height": 400}
            for i in range(1, num_images + 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco, detections


def _found(image, category, box, rng) -> dict:
    score = float(np.round(rng.random(), 1 if rng.random() < 0.5 else 6))
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def part(coco: COCO, detections: list, image_ids: set) -> tuple:
    """The same with these images alone."""
    smaller = COCO()
    smaller.dataset = {
        "images": [image for image in coco.dataset["images"] if image["id"] in image_ids],
        "categories": coco.dataset["categories"],
        "annotations": [a for a in coco.dataset["annotations"] if a["image_id"] in image_ids],
    }
    smaller.createIndex()
    return smaller, [found for found in detections if found["image_id"] in image_ids]
