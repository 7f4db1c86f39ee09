"""A detector that was trained on red squares and blue discs, scored against spoilt annotations.

pycocotools scores the same detections against the annotations without the spoilt ones. Both must
agree, and the tool must say how many annotations it left out, and why.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from squares import REPOSITORY
from tool_runner import Outcome, run_tool

from detectron_ext.engine.weights_file import read_weights, write_weights

_SIZE = 96
_CATEGORIES = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
# The ids of the annotations that the tests spoil: of both classes, in eight of the twelve images.
_SPOILT = (1, 4, 7, 10, 13, 16, 19, 22)


def _set(**fields):
    return lambda annotation: annotation.update(fields)


def _set_box(**places):
    """Return a function that replaces x, y, width or height of a box."""

    def change(annotation):
        box = dict(zip(("x", "y", "width", "height"), annotation["bbox"]), **places)
        annotation["bbox"] = list(box.values())

    return change


_KINDS = {
    "whose image_id is text although the ids of 'images' are numbers": lambda annotation: (
        annotation.update(image_id=str(annotation["image_id"]))
    ),
    "with an unknown image_id": _set(image_id=99),
    "with an unknown category_id": _set(category_id=9),
    "zero-sized": _set_box(width=0),
    "zero-sized, as negative": _set_box(height=-9),
    "outside the image": _set_box(x=_SIZE),
    "non-finite": _set_box(y=float("nan")),
    "zero area": _set(area=0),
}


class _Trained(NamedTuple):
    """The trained detector.

    Attributes:
        folder: holds everything.
        config: configuration file.
        truth: the annotations, COCO content.
        halfway: checkpoint of the middle of the training, whose momenta are large.
        weights: the final weights.
        detections: the file of the detections in the images.
    """

    folder: Path
    config: Path
    truth: dict
    halfway: Path
    weights: Path
    detections: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> _Trained:
    """Train for about ten seconds; the detector then finds everything, at an AP of about 0.9."""
    folder = tmp_path_factory.mktemp("shapes")
    truth = _draw_shapes(folder / "images", 12)
    config = _write(folder / "shapes.yaml", _settings(folder))
    _write(folder / "truth.json", truth)
    outcome = run_tool("train_net", "--cfg", config)
    assert outcome.status == 0, outcome.err
    training, testing = (folder / "output" / part for part in ("train", "test"))
    weights = training / "shapes" / "retinanet" / "model_final.pkl"
    detections = testing / "shapes" / "retinanet" / "detections.json"
    return _Trained(
        folder, config, truth, weights.with_name("model_iter49.pkl"), weights, detections
    )


def _draw_shapes(folder: Path, num_images: int) -> dict:
    """Write images with a red square on the left and a blue disc on the right of each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        image = np.full((_SIZE, _SIZE, 3), 128, np.uint8)
        for category in (1, 2):
            side = int(rng.integers(20, 37))
            x, y = (int(rng.integers(0, free - side)) for free in (_SIZE // 2, _SIZE))
            x += (category - 1) * _SIZE // 2
            if category == 1:
                cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), (0, 0, 255), -1)
            else:
                cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (255, 0, 0), -1)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": category,
                    "bbox": [x, y, side, side], "area": side * side, "iscrowd": 0,
                }
            )  # fmt: skip
        name = f"{image_id}.png"
        cv2.imwrite(str(folder / name), image)
        images.append({"id": image_id, "file_name": name, "width": _SIZE, "height": _SIZE})
    return {"images": images, "annotations": annotations, "categories": _CATEGORIES}


def _settings(folder: Path) -> dict:
    entry = {"im_dir": str(folder / "images"), "ann_fn": str(folder / "truth.json")}
    return {
        "_BASE_": str(REPOSITORY / "configs" / "retinanet_R-36-tiny.yaml"),
        "DATASETS_EXTRA": {"shapes": entry},
        "OUTPUT_DIR": str(folder / "output"),
        "MODEL": {"NUM_CLASSES": 3},
        "FPN": {"RPN_MAX_LEVEL": 5},
        "TRAIN": {
            "DATASETS": ["shapes"],
            "SCALES": [_SIZE],
            "MAX_SIZE": _SIZE,
            "SNAPSHOT_ITERS": 50,
        },
        "TEST": {"DATASETS": ["shapes"], "SCALE": _SIZE, "MAX_SIZE": _SIZE},
        "SOLVER": {"BASE_LR": 0.02, "WARM_UP_ITERS": 20, "MAX_ITER": 100},
        "DATA_LOADER": {"NUM_THREADS": 1},
    }


def _write(path: Path, content) -> Path:
    path.write_text(json.dumps(content))
    return path


def _changed(truth: dict, change, ids=_SPOILT) -> dict:
    """Return a copy in which the annotations of the given ids are changed."""
    content = copy.deepcopy(truth)
    for annotation in content["annotations"]:
        if annotation["id"] in ids:
            change(annotation)
    return content


def _without(truth: dict, ids=_SPOILT) -> dict:
    kept = [one for one in truth["annotations"] if one["id"] not in ids]
    return {**truth, "annotations": kept}


def _reval(trained: _Trained, annotations: dict, folder: Path) -> tuple[Outcome, dict]:
    """Score the saved detections against other annotations; return what was said and scored."""
    path = _write(folder / "annotations.json", annotations)
    outcome = run_tool(
        "reval", trained.detections, "--dataset", "shapes", "--annotations", path,
        "--output-dir", folder / "out",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    results = folder / "out" / "test" / "shapes" / "reval" / "results.json"
    return outcome, json.loads(results.read_text())


def _average_precision(annotations: dict, detections: Path) -> float:
    """Return the AP that pycocotools gives."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(annotations)
        truth.createIndex()
        score = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
        score.evaluate()
        score.accumulate()
        score.summarize()
    return score.stats[0]


def test_the_detector_finds_the_shapes(trained, tmp_path):
    outcome, results = _reval(trained, trained.truth, tmp_path)
    assert results["AP"] > 0.7
    assert results["AP"] == pytest.approx(_average_precision(trained.truth, trained.detections))
    assert "dropped" not in outcome.err


@pytest.mark.parametrize("kind", _KINDS)
def test_spoilt_annotations_are_counted_and_not_scored(trained, tmp_path, kind):
    outcome, results = _reval(trained, _changed(trained.truth, _KINDS[kind]), tmp_path)
    expected = _average_precision(_without(trained.truth), trained.detections)
    assert results["AP"] == pytest.approx(expected)
    assert expected < _average_precision(trained.truth, trained.detections) - 0.05
    said = f"8 of 24 boxes dropped: 8 {kind.split(', as')[0]} (annotation 1, ...)"
    assert outcome.err.count("dropped") == outcome.err.count(said) == 1


def test_annotations_marked_ignore_are_scored_like_crowds(trained, tmp_path):
    outcome, results = _reval(trained, _changed(trained.truth, _set(ignore=1)), tmp_path)
    crowds = _changed(trained.truth, _set(iscrowd=1))
    expected = _average_precision(crowds, trained.detections)
    assert results["AP"] == pytest.approx(expected)
    # The detections of the marked shapes are not wrong.
    assert expected > _average_precision(_without(trained.truth), trained.detections) + 0.05
    said = "8 marked ignore: not trained, and scored like a crowd"
    assert outcome.err.count(said) == 1


@pytest.mark.parametrize("change", [_set_box(width=0), _set(ignore=1), _set(iscrowd=1)])
def test_a_score_without_an_object_left_is_no_number(trained, tmp_path, change):
    everything = [one["id"] for one in trained.truth["annotations"]]
    outcome, results = _reval(trained, _changed(trained.truth, change, everything), tmp_path)
    assert results["AP"] is None
    assert outcome.err.count("shapes: there is nothing to score") == 1


def _spoilt_in_every_way(truth: dict) -> dict:
    content = copy.deepcopy(truth)
    for index, change in zip(_SPOILT, _KINDS.values()):
        change(content["annotations"][index - 1])
    content["annotations"][1]["ignore"] = 1
    return content


def test_a_test_of_the_model_scores_and_says_the_same(trained, tmp_path):
    spoilt = _spoilt_in_every_way(trained.truth)
    revaluated, results = _reval(trained, spoilt, tmp_path)
    # A process says what it dropped once for a file, so the test reads another one.
    again = _write(tmp_path / "again.json", spoilt)
    entry = {"im_dir": str(trained.folder / "images"), "ann_fn": str(again)}
    outcome = run_tool(
        "test_net", "--cfg", trained.config, "TEST.WEIGHTS", trained.weights,
        "OUTPUT_DIR", tmp_path / "test", "DATASETS_EXTRA", {"shapes": entry},
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    folder = tmp_path / "test" / "test" / "shapes" / "retinanet"
    assert json.loads((folder / "results.json").read_text()) == results
    assert (folder / "detections.json").read_text() == trained.detections.read_text()
    told = [_lines(said.err, "8 of 24 boxes dropped") for said in (outcome, revaluated)]
    assert len(told[0]) == 1 and told[0] == told[1]
    cleaned = _changed(_without(trained.truth), _set(iscrowd=1), (2,))
    assert results["AP"] == pytest.approx(_average_precision(cleaned, trained.detections))


def _lines(text: str, part: str) -> list[str]:
    """Return the lines that have a part, without what stands before their message."""
    return [line[line.index("shapes:") :] for line in text.splitlines() if part in line]


def _train(trained: _Trained, output: Path, *overrides) -> dict:
    """Train for three more iterations; return the final blobs."""
    outcome = run_tool(
        "train_net", "--cfg", trained.config, "--skip-test", "OUTPUT_DIR", output,
        "SOLVER.MAX_ITER", 3, "SOLVER.WARM_UP_ITERS", 0, *overrides,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    (path,) = (output / "train").rglob("model_final.pkl")
    return read_weights(str(path)).blobs


def test_a_start_from_weights_does_not_go_on_at_the_old_rate(trained, tmp_path):
    """At a learning rate of 1e-9 the weights stay as they are, whatever momenta they came with."""
    before = read_weights(str(trained.halfway)).blobs
    momenta = [name for name in before if name.endswith("_momentum")]
    assert max(np.abs(before[name]).max() for name in momenta) > 1e-3
    start = ("TRAIN.WEIGHTS", trained.halfway, "SOLVER.BASE_LR", 1e-9)
    after = _train(trained, tmp_path, *start)
    for name in set(before) - set(momenta):
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=1e-6, err_msg=name)


def test_momenta_that_stay_behind_deleted_class_layers_do_no_harm(trained, tmp_path):
    stored = read_weights(str(trained.weights))
    layer = "retnet_cls_pred_fpn3"
    blobs = {name: value for name, value in stored.blobs.items() if name not in _parameters(layer)}
    assert {f"{name}_momentum" for name in _parameters(layer)} <= blobs.keys()
    cut = str(tmp_path / "cut.pkl")
    write_weights(cut, stored._replace(blobs=blobs))
    three = [*_CATEGORIES, {"id": 3, "name": "star"}]
    annotations = _write(tmp_path / "three.json", {**trained.truth, "categories": three})
    entry = {"im_dir": str(trained.folder / "images"), "ann_fn": str(annotations)}
    after = _train(
        trained, tmp_path / "out", "TRAIN.WEIGHTS", cut, "MODEL.NUM_CLASSES", 4,
        "DATASETS_EXTRA", {"shapes": entry},
    )  # fmt: skip
    for name in _parameters(layer):
        rows, expected = len(after[name]), len(stored.blobs[name]) // 2 * 3
        assert rows == len(after[f"{name}_momentum"]) == expected


def _parameters(layer: str) -> tuple[str, str]:
    return f"{layer}_w", f"{layer}_b"
