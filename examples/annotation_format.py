"""Annotations in a CSV file: columns file_name, class, x1, y1, x2, y2, named in the first line."""

import csv
import os

import cv2

from detectron_ext.data.formats import FORMATS


@FORMATS.register("csv")
def read_csv(entry):
    """Read entry.ann_fn. The data set has only the images that the file names."""
    with open(entry.ann_fn, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["class"] for row in rows})
    files = sorted({row["file_name"] for row in rows})
    images = []
    for file_name in files:
        path = os.path.join(entry.im_dir, file_name)
        image = cv2.imread(path)
        if image is None:
            raise FileNotFoundError(2, "no image can be read", path)
        height, width = image.shape[:2]
        size = {"width": width, "height": height}
        images.append({"id": len(images) + 1, "file_name": file_name, **size})
    annotations = []
    for row in rows:
        x1, y1, x2, y2 = (float(row[key]) for key in ("x1", "y1", "x2", "y2"))
        place = {"id": len(annotations) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        place["image_id"] = files.index(row["file_name"]) + 1
        place["category_id"] = names.index(row["class"]) + 1
        annotations.append(place)
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "categories": categories, "annotations": annotations}
