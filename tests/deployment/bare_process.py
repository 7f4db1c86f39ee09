"""Runs an exported net with nothing but Caffe2, numpy and OpenCV.

    python bare_process.py FOLDER IMAGE

Prints detections as JSON: [x1, y1, x2, y2, score, class] each, best first.
"""

import json
import os
import sys

import cv2
import numpy as np
from caffe2.python import workspace


def read(folder, name):
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()


def main():
    folder, image_file = sys.argv[1:]
    about = json.loads(read(folder, "net.json"))
    image = cv2.imread(image_file)
    scale = about["scale"] / min(image.shape[:2])
    if round(scale * max(image.shape[:2])) > about["max_size"]:
        scale = about["max_size"] / max(image.shape[:2])
    scaled = cv2.resize(
        (image - np.array(about["pixel_means"])).astype(np.float32), None, fx=scale, fy=scale
    )
    height, width = scaled.shape[:2]
    stride = about["stride"]
    padded = [-(-side // stride) * stride for side in (height, width)]
    data = np.zeros([1, 3] + about.get("data_shape", [1, 3] + padded)[2:], np.float32)
    data[0, :, :height, :width] = scaled.transpose(2, 0, 1)
    predictor = workspace.Predictor(*(read(folder, name) for name in ("init_net.pb", "net.pb")))
    info = np.array([[height, width, scale]], np.float32)
    scores, boxes, classes = predictor.run([data, info])
    assert not [name for name in sys.modules if name.startswith("detectron")]
    rows = np.column_stack((boxes, scores, classes))
    print(json.dumps(rows[np.argsort(-scores, kind="stable")].tolist()))


if __name__ == "__main__":
    main()
