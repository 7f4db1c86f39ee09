"""The files of a test in a run's folder, of this project or of upstream Detectron.

Both write into ``<OUTPUT_DIR>/test/<data set>/<type>/``. This project writes ``detections.json``
and ``results.json``. Detectron writes ``detections.pkl`` and ``bbox_<data set>_results.json``.
Outside of competition mode the name of the latter has a random suffix, and the file is often
removed.
"""

from __future__ import annotations

import glob
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from detectron_ext.errors import UserError
from detectron_ext.evaluation.coco_eval import METRICS
from detectron_ext.evaluation.detections_file import (
    is_finite_number,
    read_detections,
    read_upstream_detections,
)
from detectron_ext.evaluation.training_log import TrainingLog, read_training_log
from detectron_ext.input_files import read_text
from detectron_ext.limits import MAX_JSON_BYTES

_PICKLE = "detections.pkl"
# Files of a test on a part of the images, of this project and of Detectron.
_PARTS = ("detections_range_*.json", "detection_range_*.pkl")


@dataclass
class TestRun:
    """A run that was tested.

    Attributes:
        name: name of the run in tables and messages.
        dataset: catalog name of the data set that was tested.
        path: folder of the test's files.
        results: content of results.json; None if it is missing or cannot be read.
        warnings: lines about problems of the folder.
    """

    __test__ = False  # pytest must not collect this class as a test

    name: str
    dataset: str
    path: Path
    results: dict | None = None
    warnings: list = field(default_factory=list)

    def detections(self, coco_gt: COCO) -> list | None:
        """Return the detections as COCO results; None, with a warning, if they were not kept.

        Raises:
            UserError: the file is damaged or does not fit the annotations, or the run has only
                proposals.
        """
        ours = self.path / "detections.json"
        theirs = sorted(self.path.glob(f"bbox_{glob.escape(self.dataset)}_results*.json"))
        if ours.exists():
            return read_detections(str(ours))
        if len(theirs) > 1:
            raise UserError(f"{self.path} has {len(theirs)} bbox results: keep only one of them")
        if theirs:
            return read_detections(str(theirs[0]))
        if (self.path / _PICKLE).exists():
            return read_upstream_detections(str(self.path / _PICKLE), coco_gt)
        if _scores_proposals(self.results):
            raise UserError(
                f"{self.name} has only proposals (MODEL.RPN_ONLY), which cannot be compared: "
                "see their average recall in results.json"
            )
        self.warnings.append(
            f"{self.name}: the detections were not kept, so only the AP of results.json is compared"
        )
        return None

    @property
    def untested_images(self) -> list:
        """Ids of the images that the test skipped, according to results.json."""
        return (self.results or {}).get("untested_images", [])

    @property
    def root(self) -> Path:
        """The run's OUTPUT_DIR."""
        is_in_test = self.path.parts[-3:-2] == ("test",)  # () for a folder directly below /
        return self.path.parents[2] if is_in_test else self.path

    def training(self) -> TrainingLog:
        """Return the training log. It has no entries if there is no log that can be used.

        If there are several logs, none is used, because it is unknown which training made the
        tested model. Then a warning is added, and also if the log is damaged.
        """
        paths = sorted(self.root.glob("train/*/*/stats.jsonl"))
        if len(paths) > 1:
            shown = ", ".join(str(path.relative_to(self.root)) for path in paths)
            self.warnings.append(
                f"{self.name}: {len(paths)} training logs, so none is used: {shown}"
            )
        if len(paths) != 1:
            return TrainingLog([])
        try:
            log = read_training_log(str(paths[0]))
        except UserError:  # its message has the whole path, which does not belong in a report
            log_name = paths[0].relative_to(self.root)
            self.warnings.append(f"{self.name}: the training log {log_name} cannot be read")
            return TrainingLog([])
        if log.num_damaged:
            self.warnings.append(
                f"{self.name}: damaged lines in stats.jsonl: {log.num_damaged}, so the time of "
                "training is unknown"
            )
        return log


def open_run(folder: str, dataset: str = "", name: str = "") -> TestRun:
    """Find the test in a run's folder.

    Args:
        folder: OUTPUT_DIR of the run, or the folder of one test in it.
        dataset: catalog name of the data set that was tested; "" if the folder has only one test.
        name: name of the run; "" is the folder.

    Raises:
        UserError: the folder does not exist, or has no test, no test on that data set, or several.
    """
    if not os.path.isdir(folder):
        raise UserError(f"no such run folder: {folder}")
    root = Path(folder).resolve()
    tests = [root] if _is_test(root) else sorted(filter(_is_test, root.glob("test/*/*")))
    if not tests:
        raise UserError(_why_nothing(folder, root))
    known = sorted({path.parent.name for path in tests})
    chosen = [path for path in tests if dataset in ("", path.parent.name)]
    if not chosen:
        raise UserError(f"{folder} was tested on {', '.join(known)}, not on {dataset}")
    if len(chosen) > 1:
        found = ", ".join(os.path.join(folder, path.relative_to(root)) for path in chosen)
        raise UserError(
            f"{folder} has {len(chosen)} tests; name the folder of one of them: {found}"
        )
    run = TestRun(name or folder, chosen[0].parent.name, chosen[0])
    run.results = _read_results(run)
    if (run.path / "detections.json").exists() and not (run.path / "results.json").exists():
        run.warnings.append(
            f"{run.name}: no results.json beside detections.json: the test was not scored, and "
            "images may be missing"
        )
    _check_finished(run)
    return run


def _is_test(path: Path) -> bool:
    names = ("detections.json", "results.json", _PICKLE)
    has_json = any(path.glob(f"bbox_{glob.escape(path.parent.name)}_results*.json"))
    return has_json or any((path / name).is_file() for name in names)


def _why_nothing(folder: str, root: Path) -> str:
    tests = [root, *root.glob("test/*/*")]
    if any(any(test.glob(name)) for test in tests for name in _PARTS):
        return (
            f"{folder} was only tested on a part of the images: test it on all images, or merge "
            "the parts with tools/reval.py"
        )
    return f"{folder} has no finished test (test/<data set>/<type>/detections.json): test it first"


def _read_results(run: TestRun) -> dict | None:
    """Read results.json, ours or in Detectron's layout {data set: {box: {AP: ...}}}."""
    path = run.path / "results.json"
    if not path.exists():
        return None
    try:
        content: Any = json.loads(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and isinstance(content.get(run.dataset), dict):
        content = content[run.dataset].get("box")
    if _scores_proposals(content) and (run.path / "detections.json").exists():
        content = None  # it belongs to another test than the detections
    has_scores = isinstance(content, dict) and ("AP" in content or _scores_proposals(content))
    if has_scores and _has_right_types(content):
        return content
    run.warnings.append(f"{run.name}: results.json is damaged or has another format")
    return None


def _scores_proposals(results: Any) -> bool:
    """Return whether results.json is of a model with MODEL.RPN_ONLY."""
    return isinstance(results, dict) and "num_proposals" in results


def _has_right_types(results: dict) -> bool:
    numbers = [results.get(name) for name in (*METRICS, "num_images")]
    untested = results.get("untested_images", [])
    return (
        all(number is None or is_finite_number(number) for number in numbers)
        and isinstance(untested, list)
        and all(isinstance(image_id, (int, float, str)) for image_id in untested)
    )


def _check_finished(run: TestRun) -> None:
    for folder in run.root.glob("train/*/*"):
        if (folder / "stats.jsonl").exists() and not (folder / "model_final.pkl").exists():
            run.warnings.append(f"{run.name}: training has not finished (no model_final.pkl)")
