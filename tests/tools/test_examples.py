"""The examples of docs/extending.md, copied out of the repository and trained by the tool."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest
from squares import REPOSITORY, make_squares
from tool_runner import run_tool

from detectron_ext.config.validate import registered

EXAMPLES = sorted(path.stem for path in (REPOSITORY / "examples").glob("*.py"))
# The registry that each example adds to.
REGISTRIES = {
    "annotation_format": "detectron_ext.data.formats:FORMATS",
    "body": "detectron_ext.modeling.bodies:BODIES",
    "box_loss": "detectron_ext.modeling.box_losses:BOX_LOSSES",
    "positive_weights": "detectron_ext.sampling.positive_weights:POSITIVE_WEIGHTS",
    "refinement": "detectron_ext.modeling.balanced_pyramid:REFINEMENTS",
    "sampler_mode": "detectron_ext.sampling.retinanet_sampler:MODES",
}
QUICK = [
    "FPN.DIM", 32, "SOLVER.MAX_ITER", 3, "SOLVER.WARM_UP_ITERS", 1, "TRAIN.IMS_PER_BATCH", 2,
    "TRAIN.SCALES", "(128,)", "TRAIN.MAX_SIZE", 128, "TEST.SCALE", 128, "TEST.MAX_SIZE", 128,
    "MODEL.NUM_CLASSES", 3, "DATA_LOADER.MINIBATCH_QUEUE_SIZE", 2, "DATA_LOADER.NUM_THREADS", 1,
    "TEST.DETECTIONS_PER_IM", 5,
]  # fmt: skip


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Return a folder outside the repository with examples, configurations and a data set."""
    folder = tmp_path_factory.mktemp("outside")
    for name in ("configs", "examples"):
        shutil.copytree(str(REPOSITORY / name), str(folder / name))
    make_squares(folder / "data", 4)
    content = json.loads((folder / "data" / "annotations.json").read_text())
    files = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    with open(str(folder / "data" / "boxes.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "class", "x1", "y1", "x2", "y2"])
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            place = [files[annotation["image_id"]], names[annotation["category_id"]]]
            writer.writerow([*place, x, y, x + width, y + height])
    return folder


def test_every_recipe_is_a_complete_example():
    assert sorted(REGISTRIES) == EXAMPLES
    document = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    for name in EXAMPLES:
        assert f"examples/{name}.py" in document and f"examples/{name}.yaml" in document
        text = (REPOSITORY / "examples" / f"{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40
        assert f"```python\n{text}```" in document


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.usefixtures("restored_registries")
def test_an_example_trains_from_outside_the_package(outside, monkeypatch, name):
    monkeypatch.chdir(outside)
    squares = {"im_dir": "data/images", "ann_fn": "data/annotations.json"}
    overrides = [*QUICK, "OUTPUT_DIR", f"output/{name}"]
    if name != "annotation_format":
        overrides += ["DATASETS_EXTRA.squares", squares]
        overrides += ["TRAIN.DATASETS", "('squares',)", "TEST.DATASETS", "('squares',)"]
    before = set(registered(REGISTRIES[name]))
    outcome = run_tool("train_net", "--cfg", f"examples/{name}.yaml", *overrides)
    assert outcome.status == 0, outcome.err
    assert len(set(registered(REGISTRIES[name])) - before) == 1
    lines = re.findall(r"^json_stats: (.*)$", outcome.out, re.MULTILINE)
    losses = [float(json.loads(line)["loss"]) for line in lines]
    assert losses and all(0 < loss < 100 for loss in losses)
    assert list((outside / "output" / name).rglob("model_final.pkl"))
    results = list((outside / "output" / name).rglob("results.json"))
    assert len(results) == 1 and "AP" in json.loads(results[0].read_text())
