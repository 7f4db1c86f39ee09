from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from tool_runner import failure

GOOD = {"image_id": 1, "category_id": 2, "bbox": [8, 8, 40, 40], "score": 0.9}


@pytest.fixture
def visualize(tool, tmp_path):
    """Return a function: detections, arguments -> outcome, pictures in tmp_path/out."""

    def run(detections, *arguments):
        path = tmp_path / "detections.json"
        path.write_text(json.dumps(detections))
        flags = ("--dataset", "squares", "--detections", path, "--output-dir", tmp_path / "out")
        return tool("visualize_results", *flags, *arguments)

    return run


def _pictures(tmp_path):
    return {path.name: cv2.imread(str(path)) for path in (tmp_path / "out").iterdir()}


def test_a_test_run_is_drawn(tool, workplace, tmp_path):
    outcome = tool(
        "visualize_results", "--dataset", "squares", "--first", 3, "--output-dir", tmp_path / "out",
        "--detections", workplace.testing / "detections.json",
    )  # fmt: skip
    assert outcome.status == 0
    assert _pictures(tmp_path).keys() == {"1.png", "2.png", "3.png"}


def test_detections_above_the_threshold_stand_to_the_right(visualize, tmp_path):
    assert visualize([GOOD], "--first", 1, "--thresh", 0.95).status == 0
    without = _pictures(tmp_path)["1.png"]
    assert visualize([GOOD], "--first", 1, "--thresh", 0.85).status == 0
    drawn = _pictures(tmp_path)["1.png"]
    middle = drawn.shape[1] // 2
    # Below the titles, which name the threshold.
    assert (drawn[60:, middle:] != without[60:, middle:]).any()
    assert (drawn[60:, :middle] == without[60:, :middle]).all()


def test_boxes_beyond_the_image_are_clipped_or_left_out(visualize, tmp_path):
    def picture(*boxes):
        detections = [{**GOOD, "bbox": box} for box in boxes]
        assert visualize(detections, "--first", 1).status == 0
        return _pictures(tmp_path)["1.png"]

    np.testing.assert_array_equal(picture([500, 500, 9, 9], [5, 5, 0, -9]), picture())
    whole = picture([0, 0, 128, 128])
    np.testing.assert_array_equal(picture([-1e29, -1e29, 2e29, 2e29]), whole)
    assert (whole != picture()).any()


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"bbox": None}, "entry 1 is not a COCO result"),
        ({"bbox": [1, 2, 3]}, "entry 1 is not a COCO result"),
        ({"bbox": [1, 2, 3, "4"]}, "entry 1 is not a COCO result"),
        ({"bbox": [1, 2, 3, math.nan]}, "entry 1 is not a COCO result"),
        ({"bbox": [1, 2, 3, 10**400]}, "entry 1 is not a COCO result"),
        ({"score": "high"}, "entry 1 is not a COCO result"),
        ({"image_id": [1]}, "entry 1 is not a COCO result"),
        ({"category_id": None}, "entry 1 is not a COCO result"),
        ({"image_id": 99}, "image 99, which data set squares does not have"),
        ({"category_id": 99}, "category 99, which data set squares does not have"),
    ],
)
def test_a_bad_detection_is_named(visualize, change, fault):
    message = failure(visualize([GOOD, {**GOOD, **change}]))
    assert fault in message and "detections.json" in message


def test_files_that_hold_no_detections_are_named(visualize, workplace):
    assert "is not a list of COCO results" in failure(visualize({}))
    for path, fault in ((workplace.weights, "is not JSON"), ("no.json", "No such file")):
        message = failure(visualize([], "--detections", path))
        assert fault in message and str(path) in message


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (("--first", "-3"), "--first: '-3' is not a number of images"),
        (("--thresh", 50), "--thresh must be a score from 0 to 1"),
        (("--thresh", "nan"), "--thresh must be a score from 0 to 1"),
        (("--dataset", "sqares"), "did you mean squares?"),
        (("--output-dir", "/proc/nothing"), "cannot write pictures to folder /proc/nothing"),
    ],
)
def test_bad_arguments_are_named(visualize, arguments, fault):
    assert fault in failure(visualize([GOOD], *arguments))
