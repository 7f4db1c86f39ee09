"""What a test left in a run's folder: ours or an upstream Detectron's.

Both write into ``<OUTPUT_DIR>/test/<data set>/<type>/``: this project ``detections.json`` and
``results.json``, upstream ``bbox_<data set>_results.json`` (with a random suffix outside of
competition mode, and then often removed) and ``detections.pkl``.
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

_PICKLE = "detections.pkl"


@dataclass
class TestRun:
    """A run that was tested.

    Attributes:
        name: what to call it.
        dataset: catalog name of what it was tested on.
        path: folder of the test's files.
        results: what results.json holds; None where there is none that can be read.
        warnings: what is odd about the folder, a line each.
    """

    __test__ = False  # it is no test of pytest's

    name: str
    dataset: str
    path: Path
    results: dict | None = None
    warnings: list = field(default_factory=list)

    def detections(self, coco_gt: COCO) -> list | None:
        """What was found, as COCO results; None, with a warning, where it was not kept.

        Raises:
            UserError: the file is damaged, or fits other annotations; an RPN alone was tested.
        """
        ours = self.path / "detections.json"
        theirs = sorted(self.path.glob(f"bbox_{glob.escape(self.dataset)}_results*.json"))
        if ours.exists():
            return read_detections(str(ours))
        if len(theirs) > 1:
            raise UserError(f"{self.path} has {len(theirs)} bbox results: keep the one to compare")
        if theirs:
            return read_detections(str(theirs[0]))
        if (self.path / _PICKLE).exists():
            return read_upstream_detections(str(self.path / _PICKLE), coco_gt)
        if _scores_proposals(self.results):
            raise UserError(
                f"{self.name} holds proposals of an RPN alone, which are not compared: "
                "results.json has their average recall"
            )
        self.warnings.append(f"{self.name}: no detections kept, only the AP of results.json")
        return None

    @property
    def untested_images(self) -> list:
        """Ids of the images that the test skipped; none where results.json does not say."""
        return (self.results or {}).get("untested_images", [])

    @property
    def root(self) -> Path:
        """The run's OUTPUT_DIR."""
        is_in_test = self.path.parts[-3:-2] == ("test",)  # also of a folder directly below /
        return self.path.parents[2] if is_in_test else self.path

    def training(self) -> TrainingLog:
        """The training log; without entries, and mostly with a warning, where there is none.

        Of several logs none is taken: nothing says which training the tested model is from.
        """
        paths = sorted(self.root.glob("train/*/*/stats.jsonl"))
        if len(paths) > 1:
            shown = ", ".join(str(path.relative_to(self.root)) for path in paths)
            self.warnings.append(f"{self.name}: {len(paths)} training logs, none is used: {shown}")
        if len(paths) != 1:
            return TrainingLog([])
        try:
            log = read_training_log(str(paths[0]))
        except UserError:  # it names the whole path, which has no place in a report
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
        folder: OUTPUT_DIR, or the folder of one test in it.
        dataset: catalog name of the test to take; any by default.
        name: what to call the run; the folder by default.

    Raises:
        UserError: no such folder, nothing tested there, not on that data set, or several tests.
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
        raise UserError(f"{folder} has {len(chosen)} tests, name one of them: {found}")
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
    if any(root.glob("**/detections_range_*.json")) or any(root.glob("**/detection_range_*.pkl")):
        return f"{folder} was tested on a part of the images only: test it whole"
    return (
        f"{folder} holds no finished test (test/<data set>/<type>/detections.json): test it first"
    )


def _read_results(run: TestRun) -> dict | None:
    """results.json, ours or in upstream's layout {data set: {box: {AP: ...}}}."""
    path = run.path / "results.json"
    if not path.exists():
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content: Any = json.load(file)
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and isinstance(content.get(run.dataset), dict):
        content = content[run.dataset].get("box")
    if _scores_proposals(content) and (run.path / "detections.json").exists():
        content = None  # it is of another test than the detections
    has_scores = isinstance(content, dict) and ("AP" in content or _scores_proposals(content))
    if has_scores and _has_right_types(content):
        return content
    run.warnings.append(f"{run.name}: results.json is damaged or of another kind")
    return None


def _scores_proposals(results: Any) -> bool:
    """Whether results.json is of a model with MODEL.RPN_ONLY."""
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
